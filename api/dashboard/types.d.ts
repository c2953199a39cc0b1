// Shapes of the public interface, as far as the dashboard reads it.

export type Health = "UNHEALTHY" | "DEGRADED" | "UNKNOWN" | "OK";

export interface Line {
  system_id: number;
  name: string;
  health: Health;
  since: string;
  reason: string;
  total: number;
  errors: number;
  error_rate: number | null;
  rps: number;
  p95_latency: number | null;
  last_event_at: string | null;
  tags: string[];
  observer_behind: boolean;
}

export type Counts = Record<Health, number>;

export interface Change {
  as_of: string;
  behind_s: number;
  worst: Health | null;
  counts: Counts;
  items: Line[];
  gone: number[];
}

export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
}

export interface Level {
  warn: number | null;
  crit: number | null;
}

export interface System {
  system_id: number;
  name: string;
  description: string;
  tags: string[];
  window_seconds: number;
  thresholds: { error_rate: Level; p95_latency: Level; min_events: number };
  created_at: string;
}

export interface Latency {
  min: number | null;
  mean: number | null;
  p50: number | null;
  p90: number | null;
  p95: number | null;
  p99: number | null;
  p999: number | null;
  max: number | null;
}

export interface Stage {
  total: number;
  errors: number;
  error_rate: number | null;
  latency_ms: Latency;
}

export interface Metrics extends Omit<Line, "name" | "tags" | "observer_behind"> {
  window_seconds: number;
  window_start: string;
  window_end: string;
  as_of: string;
  last_ok_at: string | null;
  latency_ms: Latency;
  stages: Record<string, Stage>;
  event_types: Record<string, number>;
  late: number;
  clock_skewed: number;
}

export interface SeenEvent {
  entry: string;
  index: number;
  at: string;
  ts: string | null;
  event_type: string;
  status: "ok" | "error";
  latency_ms: number | null;
  stage: string | null;
  run_id: string | null;
  payload: unknown;
}

export interface Range {
  /** Milliseconds since the epoch. */
  from: number;
  to: number;
  /** The range ends now and moves on. */
  live: boolean;
  /** Its name in the address, "" where it is free. */
  name: string;
}
