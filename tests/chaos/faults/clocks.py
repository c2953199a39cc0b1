"""Emitters whose clocks are wrong."""

from datetime import UTC, datetime, timedelta

from tests.chaos.catalogue import fault
from tests.chaos.trial import Trial
from tests.e2e.systems import ObservedSystem, event, events, register

NEAR = timedelta(seconds=30)
"""Within what is taken as skew."""
COUNT = 50


@fault("emitter-clocks")
def emitter_clocks(trial: Trial) -> None:
    """Emitters an hour ahead, an hour or a day late, or running backwards: counted as designed, and visible."""
    service = trial.start_service()
    with service.client() as http:
        for _ in range(trial.size(1, 20)):
            _send_all(trial, register(http, window_seconds=300))


def _send_all(trial: Trial, system: ObservedSystem) -> None:
    """Every kind of wrong clock once."""
    answer = system.post([event(), event(ts=_text(timedelta(hours=1)))])
    named = [(one["index"], one["field"]) for one in answer.json().get("errors", [])]
    trial.check(
        (answer.status_code, named) == (422, [(1, "ts")]), f"an hour ahead: {answer.status_code}, blamed {named}"
    )
    wanted = {"total": 0, "late": 0, "clock_skewed": 0}
    for ahead in (timedelta(hours=-1), timedelta(days=-1), NEAR, timedelta(0)):
        system.take(events(COUNT, ts=_text(ahead)))
        wanted["late"] += COUNT if ahead < timedelta(0) else 0
        wanted["clock_skewed"] += COUNT if ahead > timedelta(0) else 0
        wanted["total"] += COUNT if ahead >= timedelta(0) else 0
    backwards = [timedelta(seconds=-trial.dice.randrange(240)) for _ in range(COUNT)]
    for ahead in sorted(backwards, reverse=True):
        system.take([event(ts=_text(ahead))])
        wanted["total"] += 1
    shown = system.metrics_with(**wanted, within=20)
    trial.check(shown["errors"] == 0, "errors that nobody sent")
    for name, count in wanted.items():
        trial.figures[name] = int(trial.figures.get(name, 0)) + count


def _text(ahead: timedelta) -> str:
    return (datetime.now(UTC) + ahead).isoformat(timespec="milliseconds").replace("+00:00", "Z")
