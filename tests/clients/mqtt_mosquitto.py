"""The command line clients of Eclipse Mosquitto, with MQTT 3.1.1 and 5."""

import json
import subprocess
import sys
import threading

from common import TIMEOUT, aws, body, equal, name, raises, run, state
from mqtt_common import VERSIONS, Inbox, Message, base, each, mqtt_arguments

options = mqtt_arguments()
cloud = aws(options.http)
NAMES = {"3.1.1": "mqttv311", "5": "mqttv5"}
MARK = "message "


class Link:
    """How to connect."""

    def __init__(self, version, tls=False):
        self.title = f"MQTT {version}" + (" with TLS" if tls else "")
        host, port = options.mqtts if tls else options.mqtt
        self.flags = ["-V", NAMES[version], "-h", host, "-p", str(port)]
        if tls:
            self.flags += ["--cafile", options.ca, "--cert", options.certificate]
            self.flags += ["--key", options.key]


class Subscriber:
    """A running mosquitto_sub that has its subscriptions."""

    def __init__(self, link, topics, more=()):
        # Of what it prints, lines with the mark are messages; the rest is what -d says.
        command = ["stdbuf", "-oL", "mosquitto_sub", "-d", "-q", "1", *link.flags, *more]
        command += ["-F", f"{MARK}%t %p"]
        for topic in topics:
            command += ["-t", topic]
        self.inbox = Inbox()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            line = line.rstrip("\n")
            if line.startswith(MARK):
                topic, payload = line[len(MARK) :].split(" ", 1)
                self.inbox.put(Message(topic, payload))
            else:
                self.inbox.put(Message("debug", line))

    def __enter__(self):
        try:
            self.inbox.message("debug", lambda line: line.payload.startswith("Subscribed"))
        except AssertionError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.break_off()
        self.process.stdout.close()

    def break_off(self):
        """Ends it without DISCONNECT."""
        self.process.kill()
        self.process.wait(TIMEOUT)
        self.reader.join(TIMEOUT)

    def ended(self):
        """Waits until it has ended by itself."""
        equal(self.process.wait(TIMEOUT), 0)


def tool(command, link, *arguments, text=None):
    """Runs a tool to its end and gives what it printed."""
    ended = subprocess.run(
        [command, *link.flags, *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert ended.returncode == 0, f"{command}: {ended.returncode} {ended.stdout}{ended.stderr}"
    return ended.stdout


def publish(link, topic, payload, qos=1):
    tool("mosquitto_pub", link, "-q", str(qos), "-t", topic, "-m", payload)


def document(thing, shadow=None):
    more = {"shadowName": shadow} if shadow else {}
    return body(cloud.get_thing_shadow(thingName=thing, **more))


def thing_for(link):
    """The device of the certificate, without a shadow; or one that nobody else uses."""
    if "--cert" not in link.flags:
        return name("tools")
    try:
        cloud.delete_thing_shadow(thingName=options.thing)
    except cloud.exceptions.ResourceNotFoundException:
        pass
    return options.thing


def delta_arrives_at_a_subscriber(link):
    thing = thing_for(link)
    topic = f"{base(thing)}/update/delta"
    with Subscriber(link, [topic]) as subscriber:
        answer = cloud.update_thing_shadow(thingName=thing, payload=state(desired={"on": True}))
        version = body(answer)["version"]
        delta = subscriber.inbox.message(topic).json
        equal((delta["version"], delta["state"]), (version, {"on": True}))
        # What the tool reports settles it.
        publish(link, f"{base(thing)}/update", '{"state":{"reported":{"on":true}}}')
        assert "delta" not in document(thing)["state"], document(thing)
        subscriber.inbox.none(topic)


def update_is_visible_when_it_is_acknowledged(link):
    thing = thing_for(link)
    version = 0
    for number in range(10):
        publish(link, f"{base(thing)}/update", json.dumps({"state": {"reported": {"n": number}}}))
        found = document(thing)
        equal(found["state"]["reported"], {"n": number})
        assert version == 0 or found["version"] == version + 1, found
        version = found["version"]
    named = f"{base(thing, 'config')}/update"
    value = name("value")
    publish(link, named, json.dumps({"state": {"desired": {"b": value}}}))
    equal(document(thing, "config")["state"]["desired"]["b"], value)
    equal(document(thing)["version"], version)


def lines_of_a_file_are_updates(link):
    thing = thing_for(link)
    lines = "".join(f'{{"state":{{"reported":{{"n{n}":{n}}}}}}}\n' for n in range(5))
    tool("mosquitto_pub", link, "-q", "1", "-t", f"{base(thing)}/update", "-l", text=lines)
    equal(document(thing)["state"]["reported"], {f"n{n}": n for n in range(5)})


def request_and_response(link):
    thing = thing_for(link)
    get = f"{base(thing)}/get"
    refused = tool("mosquitto_rr", link, "-q", "1", "-t", get, "-e", f"{get}/rejected", "-m", "{}")
    equal(json.loads(refused)["code"], 404)
    cloud.update_thing_shadow(thingName=thing, payload=state(desired={"a": 1}))
    request = '{"clientToken":"mine"}'
    found = tool("mosquitto_rr", link, "-q", "1", "-t", get, "-e", f"{get}/accepted", "-m", request)
    found = json.loads(found)
    equal((found["state"]["desired"], found["clientToken"]), ({"a": 1}, "mine"))


def last_will_follows_a_broken_connection(link):
    topic = f"{name('wills')}/gone"
    polite = ["--will-topic", topic, "--will-payload", "not me", "--will-qos", "1", "-C", "1"]
    broken = ["--will-topic", topic, "--will-payload", "me", "--will-qos", "1"]
    call = name("call")
    with Subscriber(link, [topic]) as watcher:
        with Subscriber(link, [call], polite) as subscriber:
            publish(link, call, "enough")
            subscriber.ended()
        with Subscriber(link, [call], broken) as subscriber:
            subscriber.break_off()
        equal(watcher.inbox.message(topic).payload, "me")
        watcher.inbox.none(topic)


def plain_topics_reach_subscribers(link):
    room = name("room")
    with Subscriber(link, [f"{room}/+", f"{room}/deep/#"]) as one:
        with Subscriber(link, [f"{room}/a"]) as two:
            for qos in (0, 1):
                publish(link, f"{room}/a", f"hello {qos}", qos)
                equal(one.inbox.message(f"{room}/a").payload, f"hello {qos}")
                equal(two.inbox.message(f"{room}/a").payload, f"hello {qos}")
            publish(link, f"{room}/deep/b/c", "down")
            equal(one.inbox.message(f"{room}/deep/b/c").payload, "down")
            two.inbox.none(f"{room}/deep/b/c")


def other_devices_are_out_of_reach(link):
    other = name("other")
    payload = state(desired={"a": 1}).decode()
    command = ["mosquitto_pub", *link.flags, "-q", "0", "-t", f"{base(other)}/update"]
    subprocess.run([*command, "-m", payload], capture_output=True, timeout=TIMEOUT)
    publish(link, f"{base(options.thing)}/update", payload)
    absent = cloud.exceptions.ResourceNotFoundException
    raises(absent, None, lambda: cloud.get_thing_shadow(thingName=other))


checks = []
if options.mqtt:
    links = [Link(version) for version in VERSIONS]
    everything = [
        delta_arrives_at_a_subscriber,
        update_is_visible_when_it_is_acknowledged,
        lines_of_a_file_are_updates,
        request_and_response,
        last_will_follows_a_broken_connection,
        plain_topics_reach_subscribers,
    ]
    checks += each(links, everything, lambda link: link.title)
if options.mqtts:
    links = [Link(version, tls=True) for version in VERSIONS]
    own = [
        delta_arrives_at_a_subscriber,
        update_is_visible_when_it_is_acknowledged,
        request_and_response,
        other_devices_are_out_of_reach,
    ]
    checks += each(links, own, lambda link: link.title)
sys.exit(run(checks))
