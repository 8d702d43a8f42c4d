"""A node with few permits: the AWS SDK sees ThrottlingException, and its own retries get through."""

import sys
from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import ClientError

from common import arguments, aws, body, equal, name, run, state

options = arguments()


def throttling_is_its_own_exception():
    client = aws(options.http, max_pool_connections=64)
    thing = name("flood")

    def write(number):
        try:
            client.update_thing_shadow(thingName=thing, payload=state(desired={"n": number}))
            return "accepted"
        except client.exceptions.ThrottlingException as error:
            equal(error.response["ResponseMetadata"]["HTTPStatusCode"], 429)
            return "throttled"

    with ThreadPoolExecutor(64) as pool:
        outcomes = list(pool.map(write, range(2000)))
    accepted = outcomes.count("accepted")
    print(f"        {accepted} accepted, {outcomes.count('throttled')} throttled")
    assert accepted > 0 and accepted < 2000, accepted
    equal(body(client.get_thing_shadow(thingName=thing))["version"], accepted)


def the_retries_of_the_sdk_get_through():
    client = aws(options.http, retries={"max_attempts": 20, "mode": "adaptive"})
    thing = name("patient")
    try:
        for number in range(20):
            client.update_thing_shadow(thingName=thing, payload=state(desired={"n": number}))
    except ClientError as error:
        raise AssertionError(f"gave up: {error}") from error
    equal(body(client.get_thing_shadow(thingName=thing))["version"], 20)


sys.exit(run([throttling_is_its_own_exception, the_retries_of_the_sdk_get_through]))
