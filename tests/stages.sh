# shellcheck shell=bash
# Sourced by tests/run, .ci/run and others: runs stages one after the other, all of them whatever fails, and adds up what their
# runners count. A stage that counts nothing (a formatter, a linter) is one check.

# Without it a stage would have the status of `tee`.
set -o pipefail
export CARGO_TERM_COLOR=never NO_COLOR=1
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0
failed=0
report=()

# stage NAME COMMAND...
stage() {
    local name=$1 began=$SECONDS outcome=ok counts p f
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" 2>&1 | tee "$log" || outcome=FAILED
    counts=$(count "$log")
    p=${counts% *} f=${counts#* }
    # A runner that could not even start has failed as well.
    if [ $outcome = FAILED ] && [ "$f" -eq 0 ]; then
        f=1
    elif [ $outcome = ok ] && [ $((p + f)) -eq 0 ]; then
        p=1
    elif [ "$f" -gt 0 ]; then
        outcome=FAILED
    fi
    passed=$((passed + p)) failed=$((failed + f))
    report+=("$(printf '%-28s %-6s %5d passed %3d failed %5d s' "$name" $outcome "$p" "$f" $((SECONDS - began)))")
}

# Adds up the closing lines of cargo test, or of cargo nextest, which shows that of each failed test besides its own, and of
# pytest; a script that closes with a line of its own, `N passed, N failed`, has done that already.
count() {
    awk '
        function number(what) { return match($0, "[0-9]+ " what) ? substr($0, RSTART, RLENGTH) + 0 : 0 }
        function add(runner) {
            p[runner] += number("passed"); f[runner] += number("failed") + number("timed out") + number("errors?")
        }
        /^[0-9]+ passed, [0-9]+ failed$/ { best = "own"; p[best] = f[best] = 0; add(best); next }
        /^ *Summary \[/ { add("nextest"); next }
        /^ *test result: / { add("cargo"); next }
        / in [0-9.]+s( \([0-9:]+\))?( =+)?$/ { add("pytest") }
        END {
            if (!best) best = "nextest" in p ? "nextest" : "cargo" in p ? "cargo" : "pytest"
            print p[best] + 0 " " f[best] + 0
        }
    ' "$1"
}

# Closes with one line per stage and the sum; its status is that of the whole.
summary() {
    printf '\n'
    printf '%s\n' "${report[@]}"
    printf '\n%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

# install COMMAND PACKAGE [COMMAND PACKAGE]...: Debian packages for the commands that are missing.
install() {
    local missing=()
    while [ $# -gt 0 ]; do
        command -v "$1" >/dev/null || missing+=("$2")
        shift 2
    done
    packages "${missing[@]}"
}

packages() {
    [ $# -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "please install: $*" >&2
        return 1
    fi
    local sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends -y "$@"
}

# A virtual environment for the second implementation, renewed when its requirements change.
prepare_python() {
    local wanted=tests/interop/requirements.txt venv=$target/interop
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages python3-venv
    if ! cmp -s "$wanted" "$venv/requirements.txt"; then
        python3 -m venv --clear "$venv"
        "$venv/bin/python" -m pip install --quiet --requirement "$wanted"
        cp "$wanted" "$venv/requirements.txt"
    fi
}

# Exits early where nothing can be done.
need_rust() {
    if ! command -v cargo >/dev/null; then
        echo "cargo is missing: install the stable Rust toolchain with rustup, then run this again" >&2
        exit 1
    fi
}
