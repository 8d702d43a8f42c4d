"""The example device of the documents follows, catches up, comes back, and ends when told."""

import os
import signal
import subprocess
import sys
import threading

import paho.mqtt.client as mqtt

from common import TIMEOUT, aws, body, equal, name, run, state
from mqtt_common import Inbox, each, eventually, mqtt_arguments

options = mqtt_arguments()
cloud = aws(options.http)
HERE = os.path.dirname(os.path.abspath(__file__))
EXAMPLE = os.path.join(HERE, "..", "..", "docs", "examples", "device.py")


class Device:
    """The running example."""

    def __init__(self, door, thing, *more):
        command = [sys.executable, "-B", "-u", EXAMPLE, "--thing", thing, *door.flags, *more]
        self.lines = Inbox()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def says(self, text):
        return self.lines.take(f"line {text!r}", lambda line: line.startswith(text))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(TIMEOUT)
        self.reader.join(TIMEOUT)
        self.process.stdout.close()

    def interrupt(self):
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        self.ended()

    def ended(self):
        equal(self.process.wait(TIMEOUT), 0)


class Door:
    """Where the example connects, and as whom."""

    def __init__(self, address, tls):
        self.title = "with TLS" if tls else "plain"
        self.address = address
        self.tls = tls
        host, port = address
        self.flags = ["--host", host, "--port", str(port)]
        if tls:
            self.flags += ["--ca", options.ca, "--certificate", options.certificate]
            self.flags += ["--key", options.key]

    def thing(self):
        return options.thing if self.tls else name("example")

    def take_over(self, thing):
        """Connects as the device and goes away; the device loses its connection by that."""
        client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=thing,
            protocol=mqtt.MQTTv311,
            clean_session=False,
            reconnect_on_failure=False,
        )
        if self.tls:
            client.tls_set(options.ca, options.certificate, options.key)
        connected = threading.Event()
        client.on_connect = lambda *_: connected.set()
        client.connect(*self.address)
        client.loop_start()
        assert connected.wait(TIMEOUT), "no CONNACK"
        client.disconnect()
        client.loop_stop()


def wish(thing, **desired):
    cloud.update_thing_shadow(thingName=thing, payload=state(desired=desired))


def reported(thing, **wanted):
    """Waits until this is reported and nothing is left to do."""

    def settled():
        document = body(cloud.get_thing_shadow(thingName=thing))["state"]
        found = document.get("reported", {})
        return "delta" not in document and wanted.items() <= found.items()

    eventually(f"{wanted} is reported", settled)


def follows_and_catches_up(door):
    thing = door.thing()
    with Device(door, thing) as device:
        device.says("connected")
        wish(thing, on=True, colour="red")
        reported(thing, on=True, colour="red")
    # It was killed. What it missed waits for it.
    wish(thing, colour="green")
    wish(thing, colour="blue", level=3)
    with Device(door, thing) as device:
        device.says("connected, session present: True")
        reported(thing, on=True, colour="blue", level=3)
        door.take_over(thing)
        device.says("disconnected")
        device.says("connected, session present: True")
        wish(thing, mode={"night": True})
        reported(thing, mode={"night": True})
        device.interrupt()


def ends_after_as_many_deltas_as_told(door):
    thing = door.thing()
    wish(thing, on=False)
    with Device(door, thing, "--deltas", "1") as device:
        device.ended()
    reported(thing, on=False)


doors = [Door(options.mqtt, tls=False)] if options.mqtt else []
doors += [Door(options.mqtts, tls=True)] if options.mqtts else []
both = [follows_and_catches_up, ends_after_as_many_deltas_as_told]
sys.exit(run(each(doors, both, lambda door: door.title)))
