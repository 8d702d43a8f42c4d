"""A gRPC client built from the .proto files."""

import json
import sys
import threading

import grpc

from common import TIMEOUT, arguments, equal, name, refused, run, stubs

options = arguments()
pb, pb_grpc = stubs(options.proto)
channel = grpc.insecure_channel(options.grpc)
shadows = pb_grpc.ShadowsStub(channel)


def key(device, shadow=""):
    return pb.ShadowKey(device_id=device, shadow_name=shadow)


def update(device, shadow="", **fields):
    request = pb.UpdateShadowRequest(key=key(device, shadow), **fields)
    return shadows.UpdateShadow(request, timeout=TIMEOUT)


def get(device, shadow="", **fields):
    request = pb.GetShadowRequest(key=key(device, shadow), **fields)
    return shadows.GetShadow(request, timeout=TIMEOUT).shadow


def updates_and_reads():
    device = name("grpc")
    accepted = update(device, desired_json='{"a":1,"b":{"c":[1,2]}}')
    equal(accepted.version, 1)
    assert accepted.cursor and accepted.time.seconds > 1_700_000_000, accepted
    equal(update(device, reported_json='{"a":2}').version, 2)
    shadow = get(device, include=pb.Include(state=True, delta=True, metadata=True))
    equal((shadow.version, shadow.desired_version, shadow.reported_version), (2, 1, 2))
    equal(json.loads(shadow.desired_json), {"a": 1, "b": {"c": [1, 2]}})
    equal(json.loads(shadow.reported_json), {"a": 2})
    equal(json.loads(shadow.delta_json), {"a": 1, "b": {"c": [1, 2]}})
    time = json.loads(shadow.metadata_json)["desired"]["a"]["timestamp"]
    equal(time, shadow.created.ToMilliseconds())
    part = get(device, paths=["/b/c"])
    equal(json.loads(part.desired_json), {"b": {"c": [1, 2]}})


def clears_a_section_with_the_text_null():
    device = name("clear")
    update(device, desired_json='{"a":1}', reported_json='{"b":1}')
    equal(update(device, desired_json="null").version, 2)
    shadow = get(device)
    equal((shadow.desired_json, json.loads(shadow.reported_json)), ("", {"b": 1}))


def one_constant_client_token_drops_nothing():
    device = name("token")
    versions = [
        update(device, desired_json=json.dumps({"n": n}), client_token="same").version
        for n in range(100)
    ]
    equal(versions, list(range(1, 101)))
    equal(get(device).version, 100)


def one_request_id_applies_once():
    device = name("retry")
    first = update(device, desired_json='{"n":1}', request_id="once")
    update(device, desired_json='{"n":2}', request_id="other")
    again = update(device, desired_json='{"n":1}', request_id="once")
    equal((first.version, again.version), (1, 1))
    shadow = get(device)
    equal((shadow.version, json.loads(shadow.desired_json)), (2, {"n": 2}))
    try:
        update(device, desired_json='{"n":3}', request_id="once")
    except grpc.RpcError as error:
        assert "REQUEST_ID_REUSED" in str(error.trailing_metadata()), error
    else:
        raise AssertionError("a reused request id was accepted")
    equal(get(device).version, 2)


def conditions_are_checked():
    device = name("conditions")
    fresh = pb.Conditions(expected_version=0)
    equal(update(device, desired_json='{"a":1}', conditions=fresh).version, 1)
    conflict = lambda: update(device, desired_json='{"a":2}', conditions=fresh)
    refused(grpc.StatusCode.ABORTED, "VERSION_CONFLICT", conflict)
    path = pb.PathCondition(section=pb.SECTION_DESIRED, pointer="/a", equals_json="7")
    failed = lambda: update(device, desired_json='{"a":2}', conditions=pb.Conditions(paths=[path]))
    refused(grpc.StatusCode.FAILED_PRECONDITION, "CONDITION_FAILED", failed)
    path.equals_json = "1.0"
    met = pb.Conditions(expected_version=1, paths=[path])
    equal(update(device, desired_json='{"a":2}', conditions=met).version, 2)


def deletes_leave_a_tombstone():
    device = name("delete")
    missing = lambda: shadows.DeleteShadow(pb.DeleteShadowRequest(key=key(device)), timeout=TIMEOUT)
    refused(grpc.StatusCode.NOT_FOUND, None, missing)
    update(device, desired_json='{"a":1}')
    equal(missing().version, 2)
    refused(grpc.StatusCode.NOT_FOUND, None, lambda: get(device))
    equal(update(device, desired_json='{"a":1}').version, 3)


def batches_answer_item_by_item():
    one, two = name("batch"), name("batch")
    requests = [
        pb.UpdateShadowRequest(key=key(one), desired_json='{"a":1}'),
        pb.UpdateShadowRequest(key=key("not a device"), desired_json='{"a":1}'),
        pb.UpdateShadowRequest(key=key(two, "config"), desired_json='{"a":1}'),
    ]
    answer = shadows.BatchUpdateShadows(
        pb.BatchUpdateShadowsRequest(requests=requests), timeout=TIMEOUT
    )
    equal([result.code for result in answer.results], [0, grpc.StatusCode.INVALID_ARGUMENT.value[0], 0])
    reads = [pb.GetShadowRequest(key=key(one)), pb.GetShadowRequest(key=key(two))]
    answer = shadows.BatchGetShadows(pb.BatchGetShadowsRequest(requests=reads), timeout=TIMEOUT)
    equal([result.code for result in answer.results], [0, grpc.StatusCode.NOT_FOUND.value[0]])
    equal(answer.results[0].response.shadow.version, 1)


def lists_shadows_and_devices():
    prefix = name("list")
    devices = sorted(f"{prefix}-{number}" for number in range(25))
    for device in devices:
        update(device, desired_json='{"a":1}')
    update(devices[0], "config", desired_json='{"a":1}')
    answer = shadows.ListShadows(pb.ListShadowsRequest(device_id=devices[0]), timeout=TIMEOUT)
    equal(sorted(item.shadow_name for item in answer.shadows), ["", "config"])
    found, token = [], ""
    while True:
        request = pb.ListDevicesRequest(page_size=10, page_token=token, device_id_prefix=prefix)
        page = shadows.ListDevices(request, timeout=TIMEOUT)
        assert len(page.device_ids) <= 10, page
        found += page.device_ids
        token = page.next_page_token
        if not token:
            break
    equal(sorted(found), devices)


def watches_and_resumes():
    prefix = name("watch")
    device = f"{prefix}-1"
    update(device, desired_json='{"n":0}')
    watch = shadows.WatchShadows(pb.WatchShadowsRequest(device_id_prefix=prefix), timeout=TIMEOUT)
    opening = next(watch)
    equal((opening.WhichOneof("event"), opening.document.version), ("document", 1))
    event = next(watch)
    equal(event.WhichOneof("event"), "synced")
    writer = threading.Thread(
        target=lambda: [update(device, desired_json=json.dumps({"n": n})) for n in range(1, 11)]
    )
    writer.start()
    changes = (event for event in watch if event.WhichOneof("event") == "change")
    first = [next(changes) for _ in range(5)]
    equal([event.change.version for event in first], [2, 3, 4, 5, 6])
    watch.cancel()
    writer.join()
    request = pb.WatchShadowsRequest(device_id_prefix=prefix, cursor=first[-1].cursor)
    watch = shadows.WatchShadows(request, timeout=TIMEOUT)
    changes = (event for event in watch if event.WhichOneof("event") == "change")
    rest = [next(changes).change for _ in range(5)]
    equal([change.version for change in rest], [7, 8, 9, 10, 11])
    equal(json.loads(rest[-1].desired_patch_json), {"n": 10})
    watch.cancel()


def streams_updates_in_order():
    device = name("stream")

    def requests():
        for number in range(1, 201):
            body = pb.UpdateShadowRequest(key=key(device), desired_json=json.dumps({"n": number}))
            yield pb.StreamUpdatesRequest(sequence=number, update=body)

    answers = list(shadows.StreamUpdates(requests(), timeout=TIMEOUT))
    versions = {answer.sequence: answer.result.response.version for answer in answers}
    equal(versions, {number: number for number in range(1, 201)})


def honours_deadlines():
    device = name("deadline")
    refused(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        None,
        lambda: shadows.GetShadow(
            pb.GetShadowRequest(key=key(device), min_version=5), timeout=0.3
        ),
    )


def ignores_unknown_fields():
    device = name("unknown")
    known = pb.UpdateShadowRequest(key=key(device), desired_json='{"a":1}')
    # Field 1000, a string of three bytes, as a newer client might send it.
    request = pb.UpdateShadowRequest.FromString(known.SerializeToString() + b"\xc2\x3e\x03new")
    equal(shadows.UpdateShadow(request, timeout=TIMEOUT).version, 1)


def refuses_bytes_that_are_no_message():
    call = channel.unary_unary("/antumbra.v1.Shadows/UpdateShadow")
    for junk in (b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x00" * 100):
        try:
            call(junk, timeout=TIMEOUT)
        except grpc.RpcError as error:
            codes = (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)
            assert error.code() in codes, error
        else:
            raise AssertionError("junk was accepted")
    missing = channel.unary_unary("/antumbra.v1.Shadows/NoSuchMethod")
    refused(grpc.StatusCode.UNIMPLEMENTED, None, lambda: missing(b"", timeout=TIMEOUT))


sys.exit(
    run(
        [
            updates_and_reads,
            clears_a_section_with_the_text_null,
            one_constant_client_token_drops_nothing,
            one_request_id_applies_once,
            conditions_are_checked,
            deletes_leave_a_tombstone,
            batches_answer_item_by_item,
            lists_shadows_and_devices,
            watches_and_resumes,
            streams_updates_in_order,
            honours_deadlines,
            ignores_unknown_fields,
            refuses_bytes_that_are_no_message,
        ]
    )
)
