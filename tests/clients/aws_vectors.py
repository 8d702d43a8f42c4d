"""The conformance vectors of the AWS shadow service, as far as HTTP shows them."""

import json
import sys

from common import arguments, aws, body, equal, name, raises, run, state

client = aws(arguments().http)
errors = client.exceptions


def update(thing, document):
    return body(client.update_thing_shadow(thingName=thing, payload=json.dumps(document)))


def sections(thing, **both):
    return update(thing, {"state": both})


def get(thing):
    return body(client.get_thing_shadow(thingName=thing))


def a_missing_shadow_is_named():
    thing = name("v1")
    error = raises(errors.ResourceNotFoundException, None, lambda: get(thing))
    assert thing in error.response["Error"]["Message"], error


def versions_start_at_one_and_delta_follows_both_sections():
    thing = name("v2")
    equal(sections(thing, reported={"c": 1})["version"], 1)
    assert "delta" not in get(thing)["state"]
    accepted = sections(thing, desired={"c": 2})
    equal((accepted["version"], accepted["state"]), (2, {"desired": {"c": 2}}))
    equal(get(thing)["state"]["delta"], {"c": 2})
    equal(sections(thing, reported={"c": 2})["version"], 3)
    assert "delta" not in get(thing)["state"]
    sections(thing, reported={"c": 9})
    equal(get(thing)["state"]["delta"], {"c": 2})


def delta_keeps_the_path_and_takes_arrays_whole():
    thing = name("v6")
    sections(thing, desired={"a": {"b": 1, "c": 2}, "l": [1, 3]})
    sections(thing, reported={"a": {"b": 1}, "l": [1, 2]})
    equal(get(thing)["state"]["delta"], {"a": {"c": 2}, "l": [1, 3]})
    sections(thing, reported={"a": {"c": 2.0}, "l": [1, 3], "only": "here"})
    assert "delta" not in get(thing)["state"]


def a_stale_version_conflicts():
    thing = name("v8")
    sections(thing, desired={"a": 1})
    sections(thing, desired={"a": 2})
    stale = {"state": {"desired": {"a": 3}}, "version": 1}
    raises(errors.ConflictException, "Version conflict", lambda: update(thing, stale))
    equal(update(thing, stale | {"version": 2})["version"], 3)


def the_last_null_hides_the_section():
    thing = name("v9")
    sections(thing, desired={"x": 1}, reported={"y": 1})
    accepted = sections(thing, desired={"x": None})
    equal(accepted["state"], {"desired": {"x": None}})
    document = get(thing)
    equal(document["state"], {"reported": {"y": 1}})
    equal(set(document["metadata"]), {"reported"})


def a_null_section_is_removed():
    thing = name("section")
    sections(thing, desired={"x": 1}, reported={"y": 1})
    equal(sections(thing, desired=None)["version"], 2)
    equal(get(thing)["state"], {"reported": {"y": 1}})


def a_null_state_clears_and_counts_on():
    thing = name("v10")
    sections(thing, desired={"x": 1}, reported={"y": 1})
    accepted = update(thing, {"state": None})
    equal((accepted["state"], accepted["version"]), (None, 2))
    equal(accepted["metadata"], {"timestamp": accepted["timestamp"]})
    document = get(thing)
    equal((document["state"], document["metadata"], document["version"]), ({}, {}, 2))
    equal(sections(thing, desired={"x": 1})["version"], 3)


def an_empty_state_changes_nothing_but_counts():
    thing = name("v11")
    sections(thing, desired={"x": 1})
    sections(thing, desired={})
    equal(update(thing, {"state": {}})["version"], 3)
    equal(get(thing)["state"]["desired"], {"x": 1})


def empty_objects_are_kept_and_differ():
    thing = name("v13")
    sections(thing, desired={"a": 1, "d": {}})
    equal(get(thing)["state"]["desired"], {"a": 1, "d": {}})
    equal(get(thing)["state"]["delta"], {"a": 1, "d": {}})
    sections(thing, desired={"o": {"last": 1}})
    sections(thing, desired={"o": {"last": None}, "never": {"was": None}})
    equal(get(thing)["state"]["desired"], {"a": 1, "d": {}, "o": {}})


def metadata_has_a_time_for_every_leaf_sent():
    thing = name("metadata")
    accepted = sections(thing, desired={"a": {"b": 1}, "l": [1, {"x": 2}], "z": None})
    time = {"timestamp": accepted["timestamp"]}
    metadata = accepted["metadata"]["desired"]
    equal(metadata, {"a": {"b": time}, "l": [time, {"x": time}], "z": time})
    equal(get(thing)["metadata"]["desired"], {"a": {"b": time}, "l": [time, {"x": time}]})


sys.exit(
    run(
        [
            a_missing_shadow_is_named,
            versions_start_at_one_and_delta_follows_both_sections,
            delta_keeps_the_path_and_takes_arrays_whole,
            a_stale_version_conflicts,
            the_last_null_hides_the_section,
            a_null_section_is_removed,
            a_null_state_clears_and_counts_on,
            an_empty_state_changes_nothing_but_counts,
            empty_objects_are_kept_and_differ,
            metadata_has_a_time_for_every_leaf_sent,
        ]
    )
)
