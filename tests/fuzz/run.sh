#!/usr/bin/env bash
# Coverage-guided fuzzing of everything that reads bytes from a network: libFuzzer, on stable Rust.
#
#   tests/fuzz/run.sh [seconds per target, 30] [target...]
#
# First the self-test: bugs planted on purpose must be found. Then each target runs on a copy of its
# corpus: no crash, no hang, no input that costs too much memory or keeps some of it. Ends with
# `N passed, N failed`. Of a failure it names the input and the command that replays it.
#
#   FUZZ_KEEP=directory    keeps what was found, per target, and starts from it the next time
#   FUZZ_JOBS=2            targets that run at a time, else one per core and two at most
#
# What is built lies outside of the checkout. The inputs of a corpus are made by src/seeds.rs:
#   cd tests/fuzz && cargo run --example seeds
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:-30}
shift || true
[[ $seconds =~ ^[1-9][0-9]*$ ]] || {
  echo "usage: $0 [seconds per target] [target...]" >&2
  exit 2
}
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(mqtt aws stored json text)
jobs=${FUZZ_JOBS:-$(($(nproc) > 1 ? 2 : 1))}
self_test_seconds=30
# Longest input, in bytes: beyond what the parser must refuse for its size, where that is small.
declare -A length_max=([mqtt]=8192 [aws]=12288 [stored]=8192 [json]=4096 [text]=2048 [planted]=64)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/antumbra/target}/fuzz
mkdir -p "$CARGO_TARGET_DIR"
export RUST_BACKTRACE=0 # To find the lines takes longer than to find the bug; replay with 1.
machine=$(rustc -vV | sed -n 's/^host: //p')
programs=$CARGO_TARGET_DIR/$machine/release
work=$(mktemp -d "$CARGO_TARGET_DIR/run.XXXXXX")
passed=0 failed=0

finish() {
  # shellcheck disable=SC2046
  kill $(jobs -p) 2>/dev/null || true
  wait
  [ "$failed" -gt 0 ] || rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

# What cargo-fuzz passes, which stable Rust takes too. No sanitizer: unsafe code is forbidden. With
# --target, build scripts and macros are built without these.
build() {
  local flags=(-Cpasses=sancov-module)
  local argument
  for argument in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=("-Cllvm-args=-sanitizer-coverage-$argument")
  done
  # Else several comparisons become one branch, which says less.
  flags+=(-Cllvm-args=-simplifycfg-branch-fold-threshold=0)
  unset CARGO_ENCODED_RUSTFLAGS
  (cd "$here" && RUSTFLAGS="${flags[*]}" \
    cargo build --locked --release --bins --target "$machine")
}

# Packages that are of another version than in the product, so that something else would be tested.
other_versions() {
  awk -F'"' '/^name = /{name=$2} /^version = "/{pair=name " " $2
    if (FNR == NR) {known[pair]; names[name]} else if (name in names && !(pair in known)) print pair}' \
    "$here/../../Cargo.lock" "$here/Cargo.lock"
}

count() { # log, name: one of libFuzzer's final numbers
  sed -n "s/^stat::$2: *//p" "$1" | tail -n 1
}

verdict() { # pass or fail, then the line
  local result=$1
  shift
  if [ "$result" = pass ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  echo "$result  $*"
}

# The options of every run: libFuzzer stops at the first crash, at a hang, and above the memory.
options=(-timeout=10 -rss_limit_mb=512 -print_final_stats=1 -reload=0)

fuzz() { # target, seconds, options: becomes the fuzzer, so call it in a shell of its own
  local target=$1 limit=$2 home=$work/$1 dictionary=()
  shift 2
  mkdir -p "$home/corpus" "$home/found"
  cp "$here/corpus/$target"/* "$home/corpus/"
  local found=$home/found
  if [ -n "${FUZZ_KEEP:-}" ] && [ "$target" != planted ]; then
    found=$FUZZ_KEEP/$target
    mkdir -p "$found"
  fi
  if [ -e "$here/dictionaries/$target.dict" ]; then
    dictionary=("-dict=$here/dictionaries/$target.dict")
  fi
  # The first directory is where new inputs go.
  exec "$programs/$target" "${options[@]}" -max_total_time="$limit" -artifact_prefix="$home/" \
    -max_len="${length_max[$target]}" "${dictionary[@]}" "$@" \
    "$found" "$home/corpus" >"$home/log" 2>&1
}

self_test() {
  local home=$work/planted start=$SECONDS name wanted
  # Always the same attempts, and those that come near count: also on a slow machine it takes seconds.
  if (fuzz planted "$self_test_seconds" -seed=4 -use_value_profile=1); then
    verdict fail "self-test: the planted bug was not found in $self_test_seconds s"
  elif grep -q 'the planted bug was found' "$home/log"; then
    local runs
    runs=$(count "$home/log" number_of_executed_units)
    verdict pass "self-test: the planted bug was found after $((SECONDS - start)) s, $runs runs"
  else
    verdict fail "self-test: stopped by something else, see $home/log"
  fi
  while read -r name wanted; do
    if "$programs/planted" "${options[@]}" -timeout=1 -artifact_prefix="$home/" \
      "$here/corpus/known/$name" >"$home/$name.log" 2>&1; then
      verdict fail "self-test: the bug '$name' was not seen"
    elif grep -q "$wanted" "$home/$name.log"; then
      verdict pass "self-test: the bug '$name' was seen: $wanted"
    else
      verdict fail "self-test: '$name' was stopped by something else, see $home/$name.log"
    fi
  done <<'BUGS'
keep bytes are still taken
take memory allocation of
wait ERROR: libFuzzer: timeout
BUGS
}

report() { # target, exit code
  local target=$1 code=$2 home=$work/$1 log=$work/$1/log input
  local runs rate edges found memory
  runs=$(count "$log" number_of_executed_units)
  rate=$(count "$log" average_exec_per_sec)
  edges=$(grep -o ' cov: [0-9]*' "$log" | tail -n 1 | tr -dc 0-9 || true)
  found=$(count "$log" new_units_added)
  memory=$(count "$log" peak_rss_mb)
  local result=pass
  [ "$code" = 0 ] || result=fail
  verdict "$result" "$(printf '%-7s %10s runs %7s/s %6s edges %6s new inputs %5s MiB' "$target" \
    "${runs:-?}" "${rate:-?}" "${edges:-?}" "${found:-?}" "${memory:-?}")"
  [ "$code" != 0 ] || return 0
  grep -m 1 -A 3 -E 'panicked at|memory allocation of|ERROR: libFuzzer' "$log" | sed 's/^/      /' || true
  for input in "$home"/crash-* "$home"/oom-* "$home"/timeout-*; do
    [ -e "$input" ] || continue
    echo "      input:  $input"
    echo "      replay: $programs/$target -timeout=10 -rss_limit_mb=512 $input"
    return 0
  done
  echo "      exit code $code and no input was saved; log: $log"
}

echo "fuzz: build"
build
different=$(other_versions)
if [ -z "$different" ]; then
  verdict pass "packages are of the versions of the product"
else
  verdict fail "packages are of other versions than in the product: ${different//$'\n'/, }"
  echo "      mend:   cp Cargo.lock tests/fuzz/ && (cd tests/fuzz && cargo metadata --format-version 1 >/dev/null)"
fi
self_test

declare -A running=()
await() { # until one of the targets is done
  local process code=0
  wait -n -p process "${!running[@]}" || code=$?
  report "${running[$process]}" "$code"
  unset "running[$process]"
}
for target in "${targets[@]}"; do
  [ "${#running[@]}" -lt "$jobs" ] || await
  fuzz "$target" "$seconds" &
  running[$!]=$target
done
while [ "${#running[@]}" -gt 0 ]; do await; done

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
