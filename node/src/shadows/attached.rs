//! What one gateway wants of one shard, as the node knows it that the gateway follows the shard on.
//!
//! A number for each device and each session, in memory only: the gateway tells it anew to whoever it
//! follows next. Until it has told all, everything is wanted.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Weak};

use antumbra_shadow::{DeviceKey, Tenant};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::forward::{Reader, Writer};
use super::wanted::{Step, mark_of};

/// The first byte of a request that tells more of what is wanted, and of its answer. Beside the tags of
/// `forward::wire`; never used again for something else.
pub(super) const ATTACH_V1: u8 = 0x62;

/// Steps in one request.
pub(super) const STEPS_MAX: usize = 32 * 1024;

/// Devices that one gateway may want of one shard. Beyond it everything is wanted.
const MARKS_MAX: usize = 8 << 20;

/// What one stream carries.
pub(crate) struct Attached {
    /// Names the stream.
    pub(super) stream: u64,
    inner: RwLock<Inner>,
}

struct Inner {
    /// Whether everything is wanted, because not all was told.
    everything: bool,
    marks: HashSet<u64>,
    tenants: BTreeSet<Tenant>,
}

impl Attached {
    /// A stream that carries everything.
    pub(super) fn new(stream: u64) -> Attached {
        Attached {
            stream,
            inner: RwLock::new(Inner {
                everything: true,
                marks: HashSet::new(),
                tenants: BTreeSet::new(),
            }),
        }
    }

    /// Whether the gateway wants to hear of this device.
    pub(super) fn wants(&self, device: &DeviceKey) -> bool {
        let inner = self.inner.read();
        inner.everything
            || inner.tenants.contains(&device.tenant)
            || inner
                .marks
                .contains(&mark_of(&device.tenant, &device.device))
    }

    fn take(&self, request: AttachRequest) {
        let mut inner = self.inner.write();
        for step in request.steps {
            match step {
                Step::Device(mark, true) => drop(inner.marks.insert(mark)),
                Step::Device(mark, false) => drop(inner.marks.remove(&mark)),
                Step::Tenant(tenant, true) => drop(inner.tenants.insert(tenant)),
                Step::Tenant(tenant, false) => drop(inner.tenants.remove(&tenant)),
            }
        }
        if inner.marks.len() > MARKS_MAX {
            inner.marks = HashSet::new();
            inner.everything = true;
        } else if request.is_whole {
            inner.everything = false;
        }
    }
}

/// The streams to gateways that begin here.
#[derive(Default)]
pub(super) struct Attachments {
    streams: Mutex<HashMap<u64, Weak<Attached>>>,
}

impl Attachments {
    /// From now on the gateway may say what it wants, until the guard is dropped.
    pub(super) fn open(self: &Arc<Self>, attached: &Arc<Attached>) -> Attachment {
        let stream = attached.stream;
        self.streams.lock().insert(stream, Arc::downgrade(attached));
        Attachment {
            attachments: Arc::clone(self),
            stream,
        }
    }

    /// Takes a request of a gateway, and gives the answer.
    pub(super) fn serve(&self, request: Bytes) -> Bytes {
        let request = AttachRequest::decode(request);
        let attached = request.as_ref().and_then(|request| {
            let streams = self.streams.lock();
            streams.get(&request.stream)?.upgrade()
        });
        let is_taken = match (request, attached) {
            (Some(request), Some(attached)) => {
                attached.take(request);
                true
            }
            _ => false,
        };
        Bytes::copy_from_slice(&[ATTACH_V1, u8::from(is_taken)])
    }
}

/// Whether the other side took a request.
pub(super) fn is_taken(answer: &[u8]) -> bool {
    answer == [ATTACH_V1, 1]
}

/// Ends with the stream.
pub(super) struct Attachment {
    attachments: Arc<Attachments>,
    stream: u64,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.attachments.streams.lock().remove(&self.stream);
    }
}

/// What a gateway says that it wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AttachRequest {
    /// Which stream it is about.
    pub(super) stream: u64,
    pub(super) steps: Vec<Step>,
    /// With it all is told: from now on nothing else is wanted.
    pub(super) is_whole: bool,
}

impl AttachRequest {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::new(ATTACH_V1, 16 + self.steps.len() * 10);
        writer.u64(self.stream);
        writer.u8(u8::from(self.is_whole));
        writer.u32(self.steps.len() as u32);
        for step in &self.steps {
            match step {
                Step::Device(mark, is_wanted) => {
                    writer.u8(u8::from(*is_wanted));
                    writer.u64(*mark);
                }
                Step::Tenant(tenant, is_wanted) => {
                    writer.u8(2 + u8::from(*is_wanted));
                    writer.text(tenant.as_str());
                }
            }
        }
        writer.finish()
    }

    fn decode(message: Bytes) -> Option<AttachRequest> {
        let (tag, mut reader) = Reader::open(message)?;
        if tag != ATTACH_V1 {
            return None;
        }
        let request = AttachRequest {
            stream: reader.u64()?,
            is_whole: match reader.u8()? {
                0 => false,
                1 => true,
                _ => return None,
            },
            steps: reader.list(STEPS_MAX, |reader| {
                Some(match reader.u8()? {
                    0 => Step::Device(reader.u64()?, false),
                    1 => Step::Device(reader.u64()?, true),
                    2 => Step::Tenant(reader.tenant()?, false),
                    3 => Step::Tenant(reader.tenant()?, true),
                    _ => return None,
                })
            })?,
        };
        reader.finish(request)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use antumbra_shadow::DeviceId;

    use super::*;

    fn device(id: &str) -> DeviceKey {
        DeviceKey::new(Tenant::default(), DeviceId::parse(id).unwrap())
    }

    fn mark(id: &str) -> u64 {
        let device = device(id);
        mark_of(&device.tenant, &device.device)
    }

    fn tell(attachments: &Attachments, steps: Vec<Step>, is_whole: bool) -> bool {
        let request = AttachRequest {
            stream: 5,
            steps,
            is_whole,
        };
        is_taken(&attachments.serve(request.encode()))
    }

    /// A gateway that has told a part only must not miss the rest.
    #[test]
    fn everything_is_wanted_until_all_is_told() {
        let attachments = Arc::new(Attachments::default());
        let attached = Arc::new(Attached::new(5));
        let open = attachments.open(&attached);
        assert!(tell(
            &attachments,
            vec![Step::Device(mark("a"), true)],
            false
        ));
        assert!(attached.wants(&device("b")));
        assert!(tell(&attachments, vec![], true));
        assert!(attached.wants(&device("a")) && !attached.wants(&device("b")));
        let all = Step::Tenant(Tenant::default(), true);
        assert!(tell(&attachments, vec![all], false));
        assert!(attached.wants(&device("b")));
        let none = Step::Tenant(Tenant::default(), false);
        let steps = vec![none, Step::Device(mark("a"), false)];
        assert!(tell(&attachments, steps, false));
        assert!(!attached.wants(&device("a")));
        drop(open);
        assert!(!tell(&attachments, vec![], false), "the stream is over");
    }

    /// Nodes of two versions talk to each other: the bytes are frozen.
    #[test]
    fn request_is_frozen_and_read_back() {
        let request = AttachRequest {
            stream: 1,
            steps: vec![
                Step::Device(2, true),
                Step::Tenant(Tenant::parse("t").unwrap(), false),
            ],
            is_whole: true,
        };
        let bytes = request.encode();
        let frozen = b"\x62\0\0\0\0\0\0\0\x01\x01\0\0\0\x02\x01\0\0\0\0\0\0\0\x02\x02\0\0\0\x01t";
        assert_eq!(&bytes[..], frozen);
        assert_eq!(AttachRequest::decode(bytes.clone()), Some(request));
        for length in 0..bytes.len() {
            assert_eq!(AttachRequest::decode(bytes.slice(..length)), None);
        }
    }
}
