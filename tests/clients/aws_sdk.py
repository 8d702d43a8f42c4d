"""The unmodified AWS SDK for Python: operations, paging, and every error as its own exception."""

import json
import sys

from common import arguments, aws, body, equal, name, raises, run, state

options = arguments()
client = aws(options.http)
errors = client.exceptions


def update(thing, payload, **kwargs):
    return body(client.update_thing_shadow(thingName=thing, payload=payload, **kwargs))


def get(thing, **kwargs):
    return body(client.get_thing_shadow(thingName=thing, **kwargs))


def delete(thing, **kwargs):
    return body(client.delete_thing_shadow(thingName=thing, **kwargs))


def updates_and_reads_a_classic_shadow():
    thing = name("classic")
    accepted = update(thing, state(desired={"on": True, "level": 3}))
    equal(accepted["version"], 1)
    equal(accepted["state"], {"desired": {"on": True, "level": 3}})
    assert set(accepted["metadata"]) == {"desired"}, accepted
    seconds = accepted["timestamp"]
    assert 1_700_000_000 < seconds < 5_000_000_000, f"not in seconds: {seconds}"
    equal(accepted["metadata"]["desired"]["on"], {"timestamp": seconds})

    accepted = update(thing, state(reported={"on": False}))
    equal((accepted["version"], accepted["state"]), (2, {"reported": {"on": False}}))
    document = get(thing)
    equal(document["version"], 2)
    equal(document["state"]["desired"], {"on": True, "level": 3})
    equal(document["state"]["reported"], {"on": False})
    equal(document["state"]["delta"], {"on": True, "level": 3})
    equal(set(document["metadata"]), {"desired", "reported"})


def echoes_the_client_token():
    thing = name("token")
    request = {"state": {"desired": {"a": 1}}, "clientToken": "my-token"}
    equal(update(thing, json.dumps(request).encode())["clientToken"], "my-token")
    assert "clientToken" not in get(thing)


def answers_http_headers_of_the_service():
    thing = name("headers")
    answer = client.update_thing_shadow(thingName=thing, payload=state(desired={"a": 1}))
    metadata = answer["ResponseMetadata"]
    equal(metadata["HTTPStatusCode"], 200)
    assert metadata["RequestId"], metadata


def keeps_named_shadows_apart():
    thing = name("named")
    update(thing, state(desired={"a": 1}))
    update(thing, state(desired={"b": 2}), shadowName="config")
    update(thing, state(desired={"b": 3}), shadowName="config")
    update(thing, state(desired={"c": 1}), shadowName="$firmware:v1_2")
    equal(get(thing)["state"]["desired"], {"a": 1})
    equal(get(thing, shadowName="config")["version"], 2)
    listed = client.list_named_shadows_for_thing(thingName=thing)
    equal(sorted(listed["results"]), ["$firmware:v1_2", "config"])
    assert isinstance(listed["timestamp"], int), listed
    equal(delete(thing, shadowName="config")["version"], 2)
    equal(client.list_named_shadows_for_thing(thingName=thing)["results"], ["$firmware:v1_2"])
    equal(get(thing)["version"], 1)


def pages_named_shadows():
    thing = name("paged")
    wanted = [f"shadow-{number:02}" for number in range(30)]
    for shadow in wanted:
        update(thing, state(desired={"n": 1}), shadowName=shadow)
    found, pages, token = [], 0, None
    while True:
        more = {"nextToken": token} if token else {}
        page = client.list_named_shadows_for_thing(thingName=thing, pageSize=7, **more)
        assert len(page["results"]) <= 7, page
        found += page["results"]
        pages += 1
        token = page.get("nextToken")
        if not token:
            break
    equal(sorted(found), wanted)
    equal(len(set(found)), 30)
    assert pages >= 5, pages
    everything = client.list_named_shadows_for_thing(thingName=thing, pageSize=100)
    equal((sorted(everything["results"]), everything.get("nextToken")), (wanted, None))
    unknown = client.list_named_shadows_for_thing(thingName=name("nobody"))
    equal(unknown["results"], [])


def deletes_and_counts_on():
    thing = name("deleted")
    for number in range(9):
        update(thing, state(desired={"n": number}))
    gone = delete(thing)
    equal(gone["version"], 9)
    assert isinstance(gone["timestamp"], int), gone
    raises(errors.ResourceNotFoundException, None, lambda: get(thing))
    raises(errors.ResourceNotFoundException, None, lambda: delete(thing))
    equal(update(thing, state(desired={"n": 1}))["version"], 11)
    equal(get(thing)["state"]["desired"], {"n": 1})


def not_found_is_its_own_exception():
    thing = name("missing")
    text = f"No shadow exists with name: '{thing}'"
    raises(errors.ResourceNotFoundException, text, lambda: get(thing))
    raises(errors.ResourceNotFoundException, text, lambda: delete(thing))
    raises(errors.ResourceNotFoundException, None, lambda: get(thing, shadowName="config"))


def conflict_is_its_own_exception():
    thing = name("conflict")
    update(thing, state(desired={"a": 1}))
    update(thing, state(desired={"a": 2}))
    stale = json.dumps({"state": {"desired": {"a": 3}}, "version": 1}).encode()
    raises(errors.ConflictException, "Version conflict", lambda: update(thing, stale))
    equal(get(thing)["state"]["desired"], {"a": 2})
    right = json.dumps({"state": {"desired": {"a": 3}}, "version": 2}).encode()
    equal(update(thing, right)["version"], 3)


def invalid_requests_are_their_own_exception():
    thing = name("invalid")
    deep = "1"
    for _ in range(9):
        deep = f'{{"a":{deep}}}'
    wrong = {
        "": "Invalid JSON",
        "{": "Invalid JSON",
        "nonsense": "Invalid JSON",
        '{"state":{"desired":{"a":1}}} trailing': "Invalid JSON",
        "{}": "Missing required node: state",
        '{"state":1}': "State node must be an object",
        '{"state":[]}': "State node must be an object",
        '{"state":{"desired":1}}': "Desired node must be an object",
        '{"state":{"reported":"x"}}': "Reported node must be an object",
        '{"state":{"foo":1}}': "State contains an invalid node",
        '{"state":{},"version":"1"}': "Invalid version",
        '{"state":{},"version":-1}': "Invalid version",
        '{"state":{},"version":1.5}': "Invalid version",
        '{"state":{},"clientToken":7}': "Invalid clientToken",
        '{"state":{},"clientToken":"%s"}' % ("x" * 65): "Invalid clientToken",
        '{"state":{"desired":%s}}' % deep: (
            "JSON contains too many levels of nesting; maximum is 6"
        ),
        '{"state":{"desired":{"a":[1,null]}}}': None,
        '{"state":{"desired":{"a":%s}}}' % ("9" * 65): None,
        '{"state":{"desired":{"a":1e401}}}': None,
    }
    for payload, message in wrong.items():
        try:
            raises(
                errors.InvalidRequestException, message, lambda: update(thing, payload.encode())
            )
        except Exception as error:
            raise AssertionError(f"{payload[:60]!r}: {type(error).__name__}: {error}") from error
    for bad in ("a b", "ä", "x" * 129, "a.b", "a*"):
        raises(errors.InvalidRequestException, None, lambda: get(bad))
        raises(errors.InvalidRequestException, None, lambda: update(bad, state(desired={"a": 1})))
        raises(errors.InvalidRequestException, None, lambda: delete(bad))
    for bad in ("a b", "x" * 65, "ä"):
        raises(errors.InvalidRequestException, None, lambda: get(thing, shadowName=bad))
    raises(
        errors.InvalidRequestException,
        None,
        lambda: client.list_named_shadows_for_thing(thingName=thing, nextToken="nonsense"),
    )
    raises(errors.ResourceNotFoundException, None, lambda: get(thing))


def too_large_is_its_own_exception():
    thing = name("large")
    text = "The payload exceeds the maximum size allowed"
    large = state(desired={"a": "x" * 9000})
    raises(errors.RequestEntityTooLargeException, text, lambda: update(thing, large))
    half = "x" * 5000
    update(thing, state(desired={"a": half}))
    raises(
        errors.RequestEntityTooLargeException,
        text,
        lambda: update(thing, state(reported={"b": half})),
    )
    raises(
        errors.RequestEntityTooLargeException,
        None,
        lambda: update(thing, state(desired={"a": "x" * 20_000_000})),
    )
    equal(get(thing)["version"], 1)


def wrong_encoding_is_its_own_exception():
    thing = name("encoding")
    payload = b'{"state":{"desired":{"a":"\xff\xfe"}}}'
    raises(errors.UnsupportedDocumentEncodingException, None, lambda: update(thing, payload))
    raises(errors.ResourceNotFoundException, None, lambda: get(thing))


def wrong_method_is_its_own_exception():
    other = aws(options.http)

    def put(request, **_):
        request.method = "PUT"

    other.meta.events.register("request-created.iot-data.GetThingShadow", put)
    raises(
        other.exceptions.MethodNotAllowedException,
        None,
        lambda: other.get_thing_shadow(thingName=name("method")),
    )


def accepts_what_the_service_accepts():
    thing = name("accepts")
    equal(update(thing, b'{"state":{}}')["version"], 1)
    equal(get(thing)["state"], {})
    duplicate = b'{"state":{"desired":{"a":1,"a":2}},"unknown":[1,2,3]}'
    equal(update(thing, duplicate)["version"], 2)
    equal(get(thing)["state"]["desired"], {"a": 2})
    unicode = state(desired={"text": "Grüße ☀ \U0001f600"})
    equal(update(thing, unicode)["version"], 3)
    equal(get(thing)["state"]["desired"]["text"], "Grüße ☀ \U0001f600")
    zero = json.dumps({"state": {"desired": {"a": 1}}, "version": 0}).encode()
    raises(errors.ConflictException, "Version conflict", lambda: update(thing, zero))
    equal(update(name("fresh"), zero)["version"], 1)


def counts_constant_client_tokens():
    thing = name("constant")
    versions = []
    for number in range(100):
        request = {"state": {"reported": {"n": number}}, "clientToken": "constant"}
        versions.append(update(thing, json.dumps(request).encode())["version"])
    equal(versions, list(range(1, 101)))
    equal(get(thing)["version"], 100)


sys.exit(
    run(
        [
            updates_and_reads_a_classic_shadow,
            echoes_the_client_token,
            answers_http_headers_of_the_service,
            keeps_named_shadows_apart,
            pages_named_shadows,
            deletes_and_counts_on,
            not_found_is_its_own_exception,
            conflict_is_its_own_exception,
            invalid_requests_are_their_own_exception,
            too_large_is_its_own_exception,
            wrong_encoding_is_its_own_exception,
            wrong_method_is_its_own_exception,
            accepts_what_the_service_accepts,
            counts_constant_client_tokens,
        ]
    )
)
