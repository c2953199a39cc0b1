# Sourced by the scripts beside it: finds a Python and prepares the environment; leaves the checkout in $root.
# LSO_PYTHON names the interpreter to build with, LSO_VENV the environment's directory (default: .venv).

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1

is_new_enough() {
    "$1" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

can_make_environments() {
    "$1" -I -c 'import ensurepip, venv' >/dev/null 2>&1
}

# Prints the first fitting interpreter; one that lacks the venv module only where there is no other.
find_python() {
    local candidate second=
    if [ -n "${LSO_PYTHON:-}" ]; then
        is_new_enough "$LSO_PYTHON" && echo "$LSO_PYTHON" && return
        echo "${0##*/}: LSO_PYTHON=$LSO_PYTHON is not a Python of version 3.11 or newer." >&2
        return 1
    fi
    for candidate in python3.14 python3.13 python3.12 python3.11 python3 python \
        "${HOME:-}"/.pyenv/versions/3.1[1-4]*/bin/python "${HOME:-}"/.local/bin/python3.1[1-4] \
        /opt/homebrew/bin/python3.1[1-4] /usr/local/bin/python3.1[1-4]; do
        is_new_enough "$candidate" || continue
        can_make_environments "$candidate" && echo "$candidate" && return
        second=${second:-$candidate}
    done
    [ -n "$second" ] && echo "$second" && return
    echo "${0##*/}: LSO needs Python 3.11 or newer, and none was found; install one, or name it with LSO_PYTHON=/path/to/python." >&2
    return 1
}

# Makes or renews the environment for a lock file, and leaves its directory in $venv.
prepare() {
    local python
    python=$(find_python) || exit 1
    venv=$("$python" -I "$root/scripts/_venv.py" "$1") || exit 1
}
