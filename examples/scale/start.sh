#!/bin/sh
# Starts Postgres, three NATS servers in a cluster and two hosts on this machine, in one folder, and stops them all when it
# is interrupted:
#
#   examples/scale/start.sh [FOLDER]
#
# It needs Postgres 15 or newer (package postgresql), nats-server 2.10.23 or newer, and omni; each is looked for on the PATH,
# or named: POSTGRES_BIN=/usr/lib/postgresql/17/bin NATS_SERVER=… OMNI=… For people to try it out: everything listens on
# this machine alone, and the passwords are written here.
set -eu

folder="${1:-$(mktemp -d)}"
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"
omni="${OMNI:-$(command -v omni || true)}"
nats="${NATS_SERVER:-$(command -v nats-server || true)}"
postgres="${POSTGRES_BIN:-}"
if [ -z "$postgres" ]; then
  for found in "$(dirname "$(command -v initdb || echo /none/initdb)")" /usr/lib/postgresql/*/bin; do
    if [ -x "$found/initdb" ]; then postgres="$found"; fi
  done
fi
[ -x "$omni" ] || { echo "error: omni is not on the PATH; name it with OMNI=/path/to/omni" >&2; exit 1; }
[ -x "$nats" ] || { echo "error: nats-server is not on the PATH; name it with NATS_SERVER=/path/to/nats-server" >&2; exit 1; }
[ -x "$postgres/initdb" ] || { echo "error: Postgres was not found; name its programs with POSTGRES_BIN=/path/to/bin" >&2; exit 1; }

started=""
stop() {
  trap - EXIT INT TERM
  # The hosts first, so that they can say that they go.
  for pid in $started; do
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
}
trap stop EXIT
trap 'exit 0' INT TERM

# Postgres refuses to run as root.
as_postgres=""
if [ "$(id -u)" = 0 ]; then as_postgres="setpriv --reuid=postgres --regid=postgres --clear-groups"; fi

database_port="${POSTGRES_PORT:-5442}"
database="$folder/postgres"
if [ ! -d "$database" ]; then
  mkdir "$database"
  if [ "$(id -u)" = 0 ]; then
    chown postgres "$database"
    chmod o+x "$folder"
  fi
  echo "secret" >"$folder/password"
  chmod 644 "$folder/password"
  $as_postgres "$postgres/initdb" -D "$database" -U omni -A scram-sha-256 --pwfile="$folder/password" -E UTF8 >"$folder/initdb.log"
fi
$as_postgres "$postgres/postgres" -D "$database" -p "$database_port" -c listen_addresses=127.0.0.1 \
  -c unix_socket_directories= >"$folder/postgres.log" 2>&1 &
started="$!"
url="postgres://omni:secret@127.0.0.1:$database_port/postgres"

nats_port="${NATS_PORT:-4232}"
routes=""
for at in 0 1 2; do routes="$routes nats://127.0.0.1:$((nats_port + 100 + at))"; done
bus=""
for at in 0 1 2; do
  cat >"$folder/nats-$at.conf" <<CONF
server_name: nats-$at
listen: "127.0.0.1:$((nats_port + at))"
http: "127.0.0.1:$((nats_port + 200 + at))"
jetstream { store_dir: "$folder/nats-$at", sync_interval: always }
cluster {
  name: omni
  listen: "127.0.0.1:$((nats_port + 100 + at))"
  routes: [$(echo $routes | tr ' ' ',')]
}
authorization { user: omni, password: secret }
CONF
  "$nats" -c "$folder/nats-$at.conf" >"$folder/nats-$at.log" 2>&1 &
  started="$! $started"
  bus="$bus${bus:+,}nats://omni:secret@127.0.0.1:$((nats_port + at))"
done

until "$postgres/pg_isready" -q -h 127.0.0.1 -p "$database_port"; do sleep 0.2; done

# Each host has a data folder of its own; the key that seals what is secret is the same in all of them.
host_port="${OMNI_PORT:-8882}"
key="omni_sk_$(od -An -tx1 -N16 /dev/urandom | tr -d ' \n')"
if [ -f "$folder/api-key" ]; then key="$(cat "$folder/api-key")"; fi
(umask 077; echo "$key" >"$folder/api-key")
mkdir -p "$folder/media"
for at in 1 2; do
  data="$folder/host-$at"
  mkdir -p "$data"
  if [ "$at" = 2 ] && [ ! -f "$data/omni.key" ]; then cp -p "$folder/host-1/omni.key" "$data/omni.key"; fi
  OMNI_DATABASE_URL="$url" OMNI_BUS_URL="$bus" OMNI_BUS_REPLICAS=3 \
    OMNI_BUS_MONITOR_URL="http://127.0.0.1:$((nats_port + 200))" \
    OMNI_DATA_MEDIA_DIR="$folder/media" OMNI_API_KEY="$key" \
    "$omni" serve --data "$data" --listen "127.0.0.1:$((host_port + at - 1))" >"$folder/host-$at.log" 2>&1 &
  host="$!"
  started="$host $started"
  until "$omni" --url "http://127.0.0.1:$((host_port + at - 1))" --data "$data" status >/dev/null 2>&1; do
    kill -0 "$host" 2>/dev/null || { echo "error: host $at did not start:" >&2; tail -n 20 "$folder/host-$at.log" >&2; exit 1; }
    sleep 0.2
  done
done

cat <<SAY
Two hosts run, on http://127.0.0.1:$host_port and http://127.0.0.1:$((host_port + 1)). Everything is in $folder.

  export OMNI_API_KEY=$key
  $omni --url http://127.0.0.1:$host_port hosts

Stop one of them with \`kill\` and look again; Ctrl-C here stops everything.
SAY
wait
