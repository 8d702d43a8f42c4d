"""The AWS SDK and gRPC clients work on the same shadows and see each other's versions."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from common import TIMEOUT, arguments, aws, body, equal, name, raises, run, state, stubs

options = arguments()
pb, pb_grpc = stubs(options.proto)
cloud = aws(options.http, max_pool_connections=16)
channel = grpc.insecure_channel(options.grpc)
shadows = pb_grpc.ShadowsStub(channel)
pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))


def by_sdk(thing, **sections):
    return body(cloud.update_thing_shadow(thingName=thing, payload=state(**sections)))["version"]


def by_stub(device, desired):
    request = pb.UpdateShadowRequest(
        key=pb.ShadowKey(device_id=device), desired_json=json.dumps(desired)
    )
    return shadows.UpdateShadow(request, timeout=TIMEOUT).version


def by_reflection(device, desired):
    method = pool.FindServiceByName("antumbra.v1.Shadows").FindMethodByName("UpdateShadow")
    request = message_factory.GetMessageClass(method.input_type)
    answer = message_factory.GetMessageClass(method.output_type)
    stub = channel.unary_unary(
        "/antumbra.v1.Shadows/UpdateShadow",
        request_serializer=request.SerializeToString,
        response_deserializer=answer.FromString,
    )
    fields = {"key": {"device_id": device}, "desired_json": json.dumps(desired)}
    return stub(request(**fields), timeout=TIMEOUT).version


def read(device, shadow=""):
    key = pb.ShadowKey(device_id=device, shadow_name=shadow)
    return shadows.GetShadow(pb.GetShadowRequest(key=key), timeout=TIMEOUT).shadow


def versions_count_across_doors():
    device = name("doors")
    equal(by_sdk(device, desired={"sdk": 1}), 1)
    equal(by_stub(device, {"stub": 1}), 2)
    equal(by_reflection(device, {"reflection": 1}), 3)
    equal(by_sdk(device, desired={"sdk": 2}), 4)
    everything = {"sdk": 2, "stub": 1, "reflection": 1}
    equal(json.loads(read(device).desired_json), everything)
    document = body(cloud.get_thing_shadow(thingName=device))
    equal((document["version"], document["state"]["desired"]), (4, everything))


def every_write_is_seen_at_once_by_the_other_door():
    device = name("fresh")
    for number in range(1, 51):
        if number % 2:
            version = by_sdk(device, desired={"n": number})
            shadow = read(device)
            equal((shadow.version, json.loads(shadow.desired_json)), (version, {"n": number}))
        else:
            version = by_stub(device, {"n": number})
            document = body(cloud.get_thing_shadow(thingName=device))
            equal((document["version"], document["state"]["desired"]), (version, {"n": number}))
        equal(version, number)


def concurrent_doors_share_one_count():
    device = name("race")
    writers = [by_stub, by_reflection, lambda device, desired: by_sdk(device, desired=desired)]
    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(writers[n % 3], device, {f"n{n % 9}": n}) for n in range(300)]
        versions = sorted(call.result() for call in calls)
    equal(versions, list(range(1, 301)))


def named_shadows_and_deletes_are_shared():
    device = name("shared")
    payload = state(desired={"a": 1})
    cloud.update_thing_shadow(thingName=device, shadowName="config", payload=payload)
    equal(read(device, "config").version, 1)
    key = pb.ShadowKey(device_id=device, shadow_name="config")
    gone = shadows.DeleteShadow(pb.DeleteShadowRequest(key=key), timeout=TIMEOUT)
    equal(gone.version, 2)
    raises(
        cloud.exceptions.ResourceNotFoundException,
        None,
        lambda: cloud.get_thing_shadow(thingName=device, shadowName="config"),
    )
    again = cloud.update_thing_shadow(thingName=device, shadowName="config", payload=payload)
    equal(body(again)["version"], 3)


def a_version_read_at_one_door_is_a_condition_at_the_other():
    device = name("condition")
    by_stub(device, {"a": 1})
    version = read(device).version
    document = {"state": {"desired": {"a": 2}}, "version": version}
    cloud.update_thing_shadow(thingName=device, payload=json.dumps(document))
    request = pb.UpdateShadowRequest(
        key=pb.ShadowKey(device_id=device),
        desired_json='{"a":3}',
        conditions=pb.Conditions(expected_version=version),
    )
    try:
        shadows.UpdateShadow(request, timeout=TIMEOUT)
    except grpc.RpcError as error:
        equal(error.code(), grpc.StatusCode.ABORTED)
    else:
        raise AssertionError("a stale version was accepted")


sys.exit(
    run(
        [
            versions_count_across_doors,
            every_write_is_seen_at_once_by_the_other_door,
            concurrent_doors_share_one_count,
            named_shadows_and_deletes_are_shared,
            a_version_read_at_one_door_is_a_condition_at_the_other,
        ]
    )
)
