#!/usr/bin/env bash
# Three nodes of Antumbra and three of etcd on this machine, in turn: README.md says what is compared.
# Prints one table; keeps every run as a line of JSON, and the table, in the directory given.
#
#   tests/bench/compare.sh [directory]
#
# Settings, as environment variables:
#   RUNS=5 SECONDS_PER_RUN=5 WARM_UP=2 CLIENTS=1,64,512 KEYS=20000 BATCH=100 NODES=3
#   SYSTEMS=antumbra,etcd         which of the two to run
#   OPERATIONS=, ETCD_OPERATIONS= some of stream,unary,read,read-batch and put,txn,read,read-batch
#   ETCD=faster|both|3.5|3.4      the faster of the two versions in a trial, both, or one
#   MEMBERS=leader|all            which nodes the clients of both talk to
#   SHARDS=auto                   data shards of ours; etcd has one Raft group
#   THREADS=1                     threads of the clients
#   CONNECTIONS=, ETCD_CONNECTIONS= connections of the clients, else one to each node they talk to
#   PORT=27400                    first port; ours is followed by 280 more, etcd's are 500 further
#   ANTUMBRA_BIN, COMPARE_BIN     binaries, else those in the cargo target directory
#   BENCH_CACHE                   where etcd and the data of the servers are kept
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
runs=${RUNS:-5} seconds=${SECONDS_PER_RUN:-5} warm_up=${WARM_UP:-2} clients=${CLIENTS:-1,64,512}
keys=${KEYS:-20000} batch=${BATCH:-100} nodes=${NODES:-3} systems=${SYSTEMS:-antumbra,etcd}
operations=${OPERATIONS:-} etcd_operations=${ETCD_OPERATIONS:-} choice=${ETCD:-faster}
members=${MEMBERS:-leader} shards=${SHARDS:-auto} threads=${THREADS:-1} port=${PORT:-27400}
cache=${BENCH_CACHE:-$HOME/.cache/antumbra/bench}
target=${CARGO_TARGET_DIR:-$HOME/.cache/antumbra/target}
out=${1:-$cache/results/$(date -u +%Y%m%dT%H%M%SZ)}

fail() {
  echo "error: $*" >&2
  exit 1
}

# Binaries: as they are shipped. Each profile builds RocksDB once.
antumbra=${ANTUMBRA_BIN:-$target/dist/antumbra} compare=${COMPARE_BIN:-$target/dist/compare}
if [ -z "${ANTUMBRA_BIN:-}" ] && [ -z "${COMPARE_BIN:-}" ]; then
  ("$repository/.ci/setup" dist && CARGO_TARGET_DIR=$target "$repository/.ci/dist" antumbra compare) >&2
fi
[ -x "$compare" ] || fail "$compare is missing"

mkdir -p "$out"
out=$(cd "$out" && pwd)
records=$out/runs.jsonl
[ ! -e "$records" ] || fail "$records exists; give another directory"
data=$(mktemp -d "$(mkdir -p "$cache/data" && cd "$cache/data" && pwd)/XXXXXX")
running=()

# The processes of the system that is up, and what they started, by id.
descendants() {
  local process
  for process in "$@"; do
    echo "$process"
    # shellcheck disable=SC2046
    descendants $(cat "/proc/$process/task"/*/children 2>/dev/null)
  done
}

stop() {
  [ ${#running[@]} -gt 0 ] || return 0
  local all process
  all=$(descendants "${running[@]}")
  kill "${running[@]}" 2>/dev/null || true
  for _ in $(seq 200); do
    local alive=
    for process in $all; do
      [ -e "/proc/$process" ] && ! grep -q '^State:.Z' "/proc/$process/status" 2>/dev/null && alive=1
    done
    [ -n "$alive" ] || break
    sleep 0.1
  done
  if [ -n "$alive" ]; then
    echo "warning: the servers do not stop; killed" >&2
    # shellcheck disable=SC2086
    kill -KILL $all 2>/dev/null || true
  fi
  wait "${running[@]}" 2>/dev/null || true
  running=()
  rm -rf "${data:?}"/*
}
trap 'stop; rm -rf "$data"' EXIT
trap 'exit 130' INT TERM

kind=$(df --output=fstype "$data" | tail -1)
[ "$kind" != tmpfs ] || fail "$data is in memory: fsync would cost nothing. Set BENCH_CACHE"

# Sets `endpoints`.
start_antumbra() {
  [ -x "$antumbra" ] || fail "$antumbra is missing"
  local log=$out/antumbra.log arguments=(dev --data-dir "$data/antumbra" --base-port "$port")
  [ "$nodes" = 1 ] || arguments+=(--nodes "$nodes")
  env -i PATH="$PATH" HOME="$HOME" ANTUMBRA_CLUSTER_SHARDS="$shards" \
    "$antumbra" "${arguments[@]}" >"$log" 2>&1 &
  running=($!)
  for _ in $(seq 1200); do
    grep -qx ready "$log" && break
    kill -0 "${running[0]}" 2>/dev/null || fail "antumbra ended: $(tail -5 "$log")"
    sleep 0.1
  done
  grep -qx ready "$log" || cp "$data"/antumbra/*.log "$out"/ 2>/dev/null || true
  grep -qx ready "$log" || fail "antumbra is not ready after 120 s: $(tail -5 "$log")"
  endpoints=
  for i in $(seq 0 $((nodes - 1))); do
    endpoints+=${endpoints:+,}http://127.0.0.1:$((port + 100 * i))
  done
}

# Defaults but for the size limit of the database. Sets `endpoints`.
start_etcd() { # binary
  local first=$((port + 500)) cluster='' i
  for i in $(seq "$nodes"); do
    cluster+=${cluster:+,}member-$i=http://127.0.0.1:$((first + 10 * i + 1))
  done
  endpoints=
  for i in $(seq "$nodes"); do
    local client=http://127.0.0.1:$((first + 10 * i)) peer=http://127.0.0.1:$((first + 10 * i + 1))
    env -i PATH="$PATH" HOME="$HOME" "$1" --name "member-$i" --data-dir "$data/member-$i" \
      --listen-client-urls "$client" --advertise-client-urls "$client" \
      --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
      --initial-cluster "$cluster" --initial-cluster-state new \
      --initial-cluster-token "compare-$$" --quota-backend-bytes 8589934592 \
      --logger zap --log-level warn >"$out/etcd-$i.log" 2>&1 &
    running+=($!)
    endpoints+=${endpoints:+,}$client
  done
}

# Fills the system that is up and runs its shapes. Errors are in the records, and end the script last.
broken=0
cases() { # system, file, further arguments
  local system=$1 file=$2
  shift 2
  "$compare" cases --system "$system" --endpoints "$endpoints" --keys "$keys" --batch "$batch" \
    --members "$members" --threads "$threads" --out "$file" \
    "$@" || broken=1
}

busy=$(cut -d' ' -f1 /proc/loadavg)
declare -A binaries=()
versions=()
if [[ ,$systems, == *,etcd,* ]]; then
  while read -r version binary; do
    [[ $choice == faster || $choice == both || $version == "$choice".* ]] || continue
    binaries[$version]=$binary
    versions+=("$version")
  done < <("$here/install-etcd.sh")
  [ ${#versions[@]} -gt 0 ] || fail "no etcd to compare with"
fi

if [ "$choice" = faster ] && [ ${#versions[@]} -gt 1 ]; then
  trial=$out/trial.jsonl
  for round in 1 2 3; do
    for version in "${versions[@]}"; do
      start_etcd "${binaries[$version]}"
      cases etcd "$trial" --round "$round" --clients 64,512 --operations put,txn,read \
        --warm-up 1 --seconds 3 ${ETCD_CONNECTIONS:+--connections "$ETCD_CONNECTIONS"}
      stop
    done
  done
  versions=("$("$compare" faster "$trial")")
  echo "the faster etcd in the trial: ${versions[0]}" >&2
fi

for round in $(seq "$runs"); do
  shapes=(--round "$round" --clients "$clients" --seconds "$seconds" --warm-up "$warm_up")
  if [[ ,$systems, == *,antumbra,* ]]; then
    start_antumbra
    cases antumbra "$records" "${shapes[@]}" ${operations:+--operations "$operations"} \
      ${CONNECTIONS:+--connections "$CONNECTIONS"}
    stop
  fi
  for version in "${versions[@]}"; do
    start_etcd "${binaries[$version]}"
    cases etcd "$records" "${shapes[@]}" ${etcd_operations:+--operations "$etcd_operations"} \
      ${ETCD_CONNECTIONS:+--connections "$ETCD_CONNECTIONS"}
    stop
  done
done

of() { sed -n "s/^$1[^:]*: *//p" "$2" | head -1; }
{
  echo "date     $(date -u '+%Y-%m-%d %H:%M UTC')"
  echo "machine  $(nproc) cores ($(of 'model name' /proc/cpuinfo)), $(($(of MemTotal /proc/meminfo | tr -dc 0-9) / 1048576)) GiB, Linux $(uname -r), data on $kind"
  echo "load     $busy at the start, over one minute"
  echo "servers  $nodes of each system, one system at a time, clients on the same machine"
  echo "runs     $runs rounds, systems in turn, fresh data each; $warm_up s warm-up, then $seconds s measured"
  echo "work     $keys keys, documents of 1,037 bytes, patches of 306 bytes, batches of $batch reads"
  echo "clients  at: $members"
  echo "etcd     ${versions[*]:-none} ($choice)"
  echo "commit   $(git -C "$repository" describe --always --dirty 2>/dev/null || echo unknown)"
  echo
  "$compare" table "$records"
} | tee "$out/table.md"
echo "runs and table: $out" >&2
[ "$broken" = 0 ] || fail "some runs had errors; they are marked in the table"
