"""Exported files, read by the tools that they are for: DuckDB and Perfetto's own definitions.

    exports.py SOCKMEM_TRACE SOCKMEM_FLEET WORKSPACE FOLDER

A hundred recordings are generated, whose contents are known, and exported. The last line is
`N passed, N failed`, as of every test program here.
"""

import csv
import io
import json
import pathlib
import re
import subprocess
import sys
import traceback

import duckdb
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as proto

TRACE, FLEET = sys.argv[1:3]
WORKSPACE, FOLDER = (pathlib.Path(p) for p in sys.argv[3:5])
HOSTS = 100
S = 1_000_000_000


def tool(*args):
    """Runs sockmem-trace; what it prints."""
    done = subprocess.run([TRACE, *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, f"{args}: {done.returncode}: {done.stderr}"
    return done.stdout


def recording(host):
    return FOLDER / "recordings" / f"{host}.smt"


def generate():
    """Recordings and what they hold, by (host, pid, comm): sockets, idle byte·ns."""
    done = subprocess.run(
        [FLEET, str(FOLDER / "recordings"), str(HOSTS)],
        capture_output=True, text=True, check=True,
    )
    truth = {}
    for line in done.stdout.splitlines():
        host, pid, comm, sockets, byte_ns = line.split("\t")
        truth[host, int(pid), comm] = (int(sockets), int(byte_ns))
    (FOLDER / "sockets").mkdir()
    for host in {key[0] for key in truth}:
        out = FOLDER / "sockets" / f"{host}.parquet"
        tool("export", recording(host), "--format", "parquet", "--what", "sockets", "-o", out)
    return truth


def documented_queries():
    """The DuckDB queries of docs/FLEET.md, in their order."""
    text = (WORKSPACE / "docs/FLEET.md").read_text()
    queries = re.findall(r"^```sql\n(.*?)^```", text, re.M | re.S)
    assert len(queries) >= 2, "docs/FLEET.md has its queries"
    return [q.replace("'sockets/*.parquet'", f"'{FOLDER}/sockets/*.parquet'") for q in queries]


def test_the_documented_query_finds_who_holds_most_while_idle(truth):
    rows = duckdb.sql(documented_queries()[0]).fetchall()
    assert len(rows) == 20, rows
    seconds = 60
    best = sorted(
        ((byte_ns / (seconds * S), host, pid, comm, sockets)
         for (host, pid, comm), (sockets, byte_ns) in truth.items()),
        key=lambda r: (-r[0], r[1], r[2]),
    )
    for row, (held, host, pid, comm, sockets) in zip(rows, best):
        assert row[:4] == (host, pid, comm, sockets), (row, host, pid, comm, sockets)
        assert abs(row[4] - held) <= 1, (row, held)


def test_the_reasons_are_told(_truth):
    rows = duckdb.sql(documented_queries()[1]).fetchall()
    by_comm = {row[0]: row[1:] for row in rows}
    assert by_comm["nginx"][0] == HOSTS, by_comm
    # All of it waits to be read, or is the rest that truesize is above payload.
    assert by_comm["nginx"][1] > 0


def test_idle_integrals_of_all_hosts_are_exact(truth):
    query = f"""
        SELECT host, pid, comm, count(*), sum(idle_byte_ns)::HUGEINT
        FROM '{FOLDER}/sockets/*.parquet' GROUP BY ALL
    """
    found = {tuple(r[:3]): (r[3], int(r[4])) for r in duckdb.sql(query).fetchall()}
    assert found == truth, [(k, found.get(k), v) for k, v in truth.items() if found.get(k) != v][:5]


def test_parquet_has_the_sockets_of_json(_truth):
    host = "front-010"
    document = json.loads(tool("export", recording(host), "--format", "json", "--what", "sockets", "-o", "-"))
    assert document["schema"] == "sockmem-trace/export/1"
    path = FOLDER / "sockets" / f"{host}.parquet"
    relation = duckdb.sql(f"SELECT * FROM '{path}' ORDER BY cookie")
    names = relation.columns
    sockets = sorted(document["sockets"], key=lambda s: s["cookie"])
    rows = relation.fetchall()
    assert len(rows) == len(sockets) == 16
    for row, socket in zip(rows, sockets):
        row = dict(zip(names, row))
        assert row["host"] == host and row["recording"] == f"{host}.smt"
        assert row["duration_ns"] == 60 * S
        socket.update({"pid": socket["owner"]["pid"], "comm": socket["owner"]["comm"],
                       "cgroup": socket["owner"]["cgroup"], "owner": socket["owner"]["kind"]})
        for name, value in socket.items():
            if name in row:
                stored = row[name]
                stored = int(stored) if name.endswith("byte_ns") else stored
                assert stored == value, (name, stored, value)
        for name in ("resident", "rmem_alloc", "idle_byte_ns", "verdict", "closed", "drops"):
            assert name in row and name in socket, name


def events(host):
    """The events of a host, from the CSV."""
    text = tool("export", recording(host), "--format", "csv", "-o", "-")
    return list(csv.DictReader(io.StringIO(text)))


def test_parquet_csv_and_json_have_the_same_events(_truth):
    host = "front-003"
    out = FOLDER / "events.parquet"
    tool("export", recording(host), "--format", "parquet", "-o", out)
    rows = events(host)
    names = list(rows[0])
    assert names == ("t_ns,cookie,hook,rmem_alloc,wmem_queued,wmem_alloc,forward_alloc,optmem,"
                     "backlog,rcvbuf,sndbuf,resident").split(",")
    stored = duckdb.sql(f"SELECT {','.join(names)} FROM '{out}'").fetchall()
    document = json.loads(tool("export", recording(host), "--format", "json", "-o", "-"))
    assert len(stored) == len(rows) == len(document["events"]) > 300
    for row, parquet, member in zip(rows, stored, document["events"]):
        values = [row[n] for n in names]
        assert values == ["" if v is None else str(v) for v in parquet]
        assert values == ["" if member[n] is None else str(member[n]) for n in names]
    times = [int(r["t_ns"]) for r in rows]
    assert times == sorted(times)
    # A moment is what the host's clock showed.
    first = duckdb.sql(f"SELECT epoch_us(t), typeof(t) FROM '{out}' LIMIT 1").fetchall()[0]
    assert first[0] == document["events"][0]["t_unix_ns"] // 1000, first


def no_unknown_fields(message):
    """Whether Perfetto's definitions know every field of a message."""
    from google.protobuf.unknown_fields import UnknownFieldSet
    assert len(UnknownFieldSet(message)) == 0, message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else [value]:
                no_unknown_fields(inner)


def perfetto(host):
    out = FOLDER / f"{host}.pftrace"
    if not out.exists():
        tool("export", recording(host), "--format", "perfetto", "-o", out)
    trace = proto.Trace()
    trace.ParseFromString(out.read_bytes())
    return trace


def test_perfettos_definitions_know_every_field(_truth):
    trace = perfetto("front-001")
    no_unknown_fields(trace)
    clock = trace.packet[0].clock_snapshot
    assert clock.primary_trace_clock == proto.BUILTIN_CLOCK_MONOTONIC
    assert {c.clock_id: c.timestamp for c in clock.clocks} == {
        proto.BUILTIN_CLOCK_MONOTONIC: 1000 * S,
        proto.BUILTIN_CLOCK_REALTIME: 1_767_225_600 * S + 1,
    }
    timed = [p for p in trace.packet if p.HasField("track_event")]
    assert timed
    for packet in timed:
        assert packet.timestamp_clock_id == proto.BUILTIN_CLOCK_MONOTONIC
        assert packet.trusted_packet_sequence_id == trace.packet[0].trusted_packet_sequence_id


def test_perfetto_tracks_hang_below_named_processes(_truth):
    trace = perfetto("front-001")
    tracks, used = {}, set()
    for packet in trace.packet:
        if packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            assert track.uuid not in tracks and track.uuid != 0
            assert not track.parent_uuid or track.parent_uuid in tracks, "parents come first"
            tracks[track.uuid] = track
        elif packet.HasField("track_event"):
            event = packet.track_event
            assert event.track_uuid in tracks, "a track is described before it is used"
            counter = tracks[event.track_uuid].HasField("counter")
            assert counter == (event.type == proto.TrackEvent.TYPE_COUNTER)
            assert counter == event.HasField("counter_value")
            used.add(event.track_uuid)
    processes = {t.process.pid: t.process.process_name for t in tracks.values() if t.HasField("process")}
    assert processes == {1001: "nginx", 2001: "envoy", 3001: "redis-server"}, processes

    def root(track):
        while track.parent_uuid:
            track = tracks[track.parent_uuid]
        return track

    counters = [t for t in tracks.values() if t.name == "resident"]
    assert len(counters) == 16 and all(root(t).HasField("process") for t in counters)
    assert all(t.counter.unit == proto.CounterDescriptor.UNIT_SIZE_BYTES for t in counters)
    # Limits are apart from memory.
    for track in tracks.values():
        if track.name in ("rcvbuf", "sndbuf"):
            assert tracks[track.parent_uuid].name.startswith("limits")
    assert all(t.uuid in used for t in counters)


def test_perfetto_counters_are_those_of_the_events(_truth):
    host = "front-004"
    trace = perfetto(host)
    names, parents, values, instants = {}, {}, {}, 0
    open_slices = {}
    for packet in trace.packet:
        if packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            names[track.uuid], parents[track.uuid] = track.name, track.parent_uuid
        elif packet.HasField("track_event"):
            event = packet.track_event
            if event.type == proto.TrackEvent.TYPE_COUNTER:
                values.setdefault(event.track_uuid, []).append((packet.timestamp, event.counter_value))
            elif event.type == proto.TrackEvent.TYPE_INSTANT:
                notes = {n.name: n.uint_value or n.string_value for n in event.debug_annotations}
                assert notes["from"] != notes["to"] and notes["cause"] in ("autotune", "clamp"), notes
                instants += 1
            else:
                step = 1 if event.type == proto.TrackEvent.TYPE_SLICE_BEGIN else -1
                open_slices[event.track_uuid] = open_slices.get(event.track_uuid, 0) + step
    assert instants > 0
    assert set(open_slices.values()) == {0}, "every slice that began ended"

    def at(uuid, t_ns):
        """The value that a counter has at a moment."""
        return [v for t, v in values[uuid] if t <= t_ns][-1]

    checked = 0
    for row in events(host):
        socket = next(u for u, n in names.items() if n.endswith(f"(cookie {row['cookie']})"))
        t_ns = int(row["t_ns"])
        for counter in ("resident", "rmem_alloc", "wmem_queued", "forward_alloc"):
            uuid = next(u for u, n in names.items() if n == counter and parents[u] == socket)
            assert at(uuid, t_ns) == int(row[counter]), (counter, row)
            checked += 1
    assert checked > 1000
    # The sum over nginx at the end is what its seven live sockets hold.
    nginx = next(u for u, n in names.items() if n == "nginx")
    total = next(u for u, n in names.items() if parents[u] == nginx and n.startswith("resident of"))
    assert values[total][-1][1] == 7 * 2304 * 5


def main():
    truth = generate()
    tests = [(n, f) for n, f in globals().items() if n.startswith("test_")]
    failed = 0
    for name, test in tests:
        try:
            test(truth)
            print(f"ok      {name}")
        except Exception:
            failed += 1
            print(f"FAILED  {name}")
            traceback.print_exc(file=sys.stdout)
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
