"""What the client scripts share: arguments, connections, and a few assertions.

Every script is run against one fresh node and exits with 0 when everything held.
"""

import argparse
import json
import os
import sys
import tempfile
import uuid

import boto3
import botocore.config
import grpc
import grpc_tools
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from grpc_tools import protoc

TIMEOUT = 20


def arguments(*more):
    """What every script is told, and `more` as (flag, settings of argparse)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", required=True, help="http://host:port of the HTTP door")
    parser.add_argument("--grpc", required=True, help="host:port of the gRPC door")
    parser.add_argument("--proto", required=True, help="directory of the .proto files")
    for flag, settings in more:
        parser.add_argument(flag, **settings)
    return parser.parse_args()


def aws(endpoint, **kwargs):
    """The unmodified AWS client, without retries so that every error is seen."""
    settings = {
        "retries": {"total_max_attempts": 1},
        "connect_timeout": TIMEOUT,
        "read_timeout": TIMEOUT,
        "parameter_validation": True,
    }
    settings.update(kwargs)
    return boto3.client(
        "iot-data",
        endpoint_url=endpoint,
        region_name="eu-central-1",
        aws_access_key_id="anybody",
        aws_secret_access_key="nothing",
        config=botocore.config.Config(**settings),
    )


def stubs(proto):
    """Generates the gRPC stubs from the .proto files, as a user would, and imports them."""
    out = tempfile.mkdtemp(prefix="antumbra-stubs-")
    common = os.path.join(os.path.dirname(grpc_tools.__file__), "_proto")
    wanted = ["protoc", f"-I{proto}", f"-I{common}", f"--python_out={out}"]
    wanted += [f"--grpc_python_out={out}", "antumbra/v1/shadows.proto"]
    assert protoc.main(wanted) == 0, "protoc failed"
    sys.path.insert(0, out)
    from antumbra.v1 import shadows_pb2, shadows_pb2_grpc

    return shadows_pb2, shadows_pb2_grpc


def reason(error):
    """The ErrorInfo reason of a failed call."""
    status = rpc_status.from_call(error)
    assert status is not None, f"no details: {error}"
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            assert info.domain == "antumbra", info
            return info.reason
    raise AssertionError(f"no ErrorInfo: {error}")


def refused(code, wanted, call):
    """The call must fail with this gRPC code and ErrorInfo reason."""
    try:
        answer = call()
    except grpc.RpcError as error:
        assert error.code() == code, f"{error.code()} is not {code}: {error.details()}"
        if wanted is not None:
            assert reason(error) == wanted, f"{reason(error)} is not {wanted}"
        return error
    raise AssertionError(f"not refused with {code}: {answer}")


def raises(exception, message, call):
    """The call must raise this class of botocore exception, with this text."""
    try:
        answer = call()
    except exception as error:
        text = error.response["Error"].get("Message", "")
        if message is not None:
            assert text == message, f"{text!r} is not {message!r}"
        metadata = error.response["ResponseMetadata"]
        assert metadata.get("RequestId"), f"no request id: {metadata}"
        return error
    raise AssertionError(f"not refused with {exception.__name__}: {answer}")


def body(answer):
    """The JSON payload of an AWS answer."""
    return json.loads(answer["payload"].read())


def state(**sections):
    """A request document."""
    return json.dumps({"state": sections}).encode()


def name(prefix):
    """A device id nobody else uses."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def equal(found, wanted):
    assert found == wanted, f"\n   found {found!r}\n  wanted {wanted!r}"


def run(checks):
    """Runs every check, says which failed, and gives the exit code."""
    failed = 0
    for check in checks:
        title = check.__name__.replace("_", " ")
        try:
            check()
            print(f"ok      {title}", flush=True)
        except Exception as error:  # a failed check must not hide the next one
            failed += 1
            print(f"FAILED  {title}: {type(error).__name__}: {error}", flush=True)
    return 1 if failed else 0
