#!/usr/bin/env bash
# Many device sessions on gateways of this machine: what each costs and how soon updates reach them.
# Prints one line per run and the median and worst of each figure; keeps every run as lines of JSON.
#
#   tests/bench/devices.sh [directory]
#
# Settings, as environment variables:
#   RUNS=5 DEVICES=50000 NODES=1 GATEWAYS=4    0 gateways: the nodes take the sessions
#   RATE=0                        sessions begun in a second, 0 for as many as possible
#   UPDATES=2000 SECONDS_PER_RUN=20            0 updates: only connect
#   PRESENCE=true|false  TLS=     any text: mTLS, one certificate of a backend for all sessions
#   PORT=20000                    first port; each process has the next hundred
#   ANTUMBRA_BIN                  binary, else the one in the cargo target directory
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${RUNS:-5} devices=${DEVICES:-50000} nodes=${NODES:-1} gateways=${GATEWAYS:-4} rate=${RATE:-0}
updates=${UPDATES:-2000} seconds=${SECONDS_PER_RUN:-20} presence=${PRESENCE:-true} tls=${TLS:-} port=${PORT:-20000}
bin=${ANTUMBRA_BIN:-${CARGO_TARGET_DIR:-$HOME/.cache/antumbra/target}/debug/antumbra}
[ -x "$bin" ] || cargo build --locked --workspace --bin antumbra
out=${1:-$(mktemp -d)}
mkdir -p "$out"
out=$(cd "$out" && pwd)

first=$((gateways > 0 ? nodes : 0))
doors=$((gateways > 0 ? gateways : nodes))
door() { echo $((port + 100 * (first + $1))); } # 0, 1, … of those that take sessions
options=(--set "mqtt.presence=$presence" --set limits.mqtt_connects_per_second_max=1000000)

stop() {
  [ -n "${cluster:-}" ] || return 0
  kill "$cluster" 2>/dev/null || true
  wait "$cluster" 2>/dev/null || true
  cluster=
}
trap stop EXIT

if [ -n "$tls" ]; then
  "$bin" cert ca --out "$out/tls" >/dev/null
  "$bin" cert node --ca "$out/tls" --out "$out/tls" --name server --host localhost,127.0.0.1 >/dev/null
  "$bin" cert client --ca "$out/tls" --out "$out/tls" --name bench >/dev/null
  options+=(--set "mqtt.tls_certificate=$out/tls/server.pem" --set "mqtt.tls_key=$out/tls/server.key"
    --set "mqtt.tls_client_authority=$out/tls/ca.pem")
fi

for run in $(seq "$runs"); do
  data=$(mktemp -d)
  log=$out/run-$run.log
  "$bin" dev --nodes "$nodes" --gateways "$gateways" --data-dir "$data" --base-port "$port" "${options[@]}" >"$log" 2>&1 &
  cluster=$!
  for _ in $(seq 600); do grep -qx ready "$log" && break; sleep 0.1; done
  grep -qx ready "$log" || { cat "$log" >&2; exit 1; }
  pids=$(sed -nE 's/^  (node|gateway)-.* pid ([0-9]+)$/\2/p' "$log" | paste -sd,)
  pids=${pids:-$cluster} # a node alone is the process itself
  endpoints=
  for nth in $(seq 0 $((doors - 1))); do
    endpoints+=,mqtt${tls:+s}://127.0.0.1:$(($(door "$nth") + ${tls:+1} + 83))
  done
  if [ -n "$tls" ]; then
    # One certificate for all sessions: that of a backend, which may hear of every device.
    fingerprint=$(python3 -c 'import hashlib,ssl,sys; print(hashlib.sha256(ssl.PEM_cert_to_DER_cert(open(sys.argv[1]).read())).hexdigest())' "$out/tls/bench.pem")
    "$bin" credential create bench --kind certificate --fingerprint "$fingerprint" --endpoint "http://127.0.0.1:$port" >/dev/null
  fi
  arguments=(--devices "$devices" --endpoints "${endpoints#,}" --connect-rate "$rate" --clean --pids "$pids"
    --grpc "http://127.0.0.1:$port" --connect-timeout 60s -o json)
  [ -z "$tls" ] || arguments+=(--ca "$out/tls/ca.pem" --cert "$out/tls/bench.pem" --key "$out/tls/bench.key")
  [ "$updates" = 0 ] && arguments+=(--seconds 1) || arguments+=(--updates-per-second "$updates" --seconds "$seconds")
  "$bin" bench mqtt "${arguments[@]}" >"$out/run-$run.jsonl"
  stop
  rm -rf "$data"
done
python3 tests/bench/devices.py "$nodes" "$out"
