"""A gRPC client that knows nothing but the address: everything comes from server reflection."""

import json
import sys

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from common import TIMEOUT, arguments, equal, name, run

SERVICE = "antumbra.v1.Shadows"

channel = grpc.insecure_channel(arguments().grpc)
database = ProtoReflectionDescriptorDatabase(channel)
pool = descriptor_pool.DescriptorPool(database)


def call(method, **fields):
    """Calls a unary method by name."""
    found = pool.FindServiceByName(SERVICE).FindMethodByName(method)
    request = message_factory.GetMessageClass(found.input_type)
    answer = message_factory.GetMessageClass(found.output_type)
    stub = channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=request.SerializeToString,
        response_deserializer=answer.FromString,
    )
    return stub(request(**fields), timeout=TIMEOUT)


def names_its_services():
    services = database.get_services()
    for wanted in (SERVICE, "grpc.health.v1.Health"):
        assert wanted in services, f"{wanted} not in {services}"


def describes_every_method():
    methods = pool.FindServiceByName(SERVICE).methods_by_name
    wanted = "GetShadow BatchGetShadows UpdateShadow BatchUpdateShadows DeleteShadow ListShadows"
    wanted += " ListDevices WatchShadows StreamUpdates"
    equal(sorted(methods), sorted(wanted.split()))


def updates_and_reads():
    device = name("reflection")
    accepted = call("UpdateShadow", key={"device_id": device}, desired_json='{"a":1}')
    equal(accepted.version, 1)
    shadow = call("GetShadow", key={"device_id": device}).shadow
    equal((shadow.version, json.loads(shadow.desired_json)), (1, {"a": 1}))
    equal(list(call("ListDevices", device_id_prefix=device).device_ids), [device])


def answers_health():
    equal(call_health(), 1)


def call_health():
    found = pool.FindServiceByName("grpc.health.v1.Health").FindMethodByName("Check")
    request = message_factory.GetMessageClass(found.input_type)
    answer = message_factory.GetMessageClass(found.output_type)
    stub = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=request.SerializeToString,
        response_deserializer=answer.FromString,
    )
    return stub(request(), timeout=TIMEOUT).status


sys.exit(run([names_its_services, describes_every_method, updates_and_reads, answers_health]))
