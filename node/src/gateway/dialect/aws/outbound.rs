//! What sessions are told of shadows.

use antumbra_shadow::{Change, DeviceId, Patch, Section, ShadowName};

use super::topic;
use crate::dialect::aws::{self, Echo};
use crate::gateway::dialect::channel::{Channel, Channels, Verb};
use crate::gateway::dialect::event::{Answer, Answered, Confirm, Current, Publish, Request, Route};
use crate::gateway::dialect::identity::Identity;
use crate::gateway::dialect::intent::Reply;

/// How the answer to an update shows its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// By section.
    Sections,
    /// As the `null` that it was.
    StateNull,
}

impl Shape {
    /// The handle that remembers the shape.
    pub(super) fn reply(self) -> Reply {
        Reply {
            shape: self as u8,
            ..Reply::default()
        }
    }

    /// The shape for a request. Without the handle, where somebody else asked, a change that cleared
    /// both sections counts as `"state": null`, which is how it is mostly written.
    fn of(request: &Request<'_>, patch: &Patch) -> Shape {
        let null = match request.reply {
            Some(reply) => reply.shape == Shape::StateNull as u8,
            None => Section::ALL.iter().all(|&section| patch.clears(section)),
        };
        match null {
            true => Shape::StateNull,
            false => Shape::Sections,
        }
    }
}

/// The message on `…/accepted` or `…/rejected`.
pub(super) fn answer(wanted: Channels, answer: &Answer<'_>) -> Option<Publish> {
    let request = &answer.request;
    let channel = match answer.result {
        Answered::Refused(_) => Channel::refused(request.verb),
        Answered::Document(_) | Answered::Accepted { .. } => Channel::accepted(request.verb),
    };
    if !wanted.contains(channel) {
        return None;
    }
    let (time, token) = (answer.time, request.client_token);
    let (device, shadow) = (&request.device.device, request.shadow);
    let payload = match answer.result {
        Answered::Document(document) => aws::document(document, time, token),
        Answered::Accepted { version } => match request.verb {
            Verb::Delete => aws::deleted(version, time, token),
            Verb::Read | Verb::Update => {
                let patch = request.patch?;
                let echo = Echo {
                    patch,
                    clears_state: Shape::of(request, patch) == Shape::StateNull,
                    client_token: token,
                };
                aws::accepted(echo, version, time)
            }
        },
        Answered::Refused(error) => {
            let label = aws::shadow_label(device.as_str(), shadow.as_str());
            aws::rejected(error, &label, time, token)
        }
    };
    Some(message(device, shadow, channel, payload))
}

/// The messages on `update/delta` and `update/documents`, in this order. None for a delete.
pub(super) fn change(identity: &Identity, wanted: Channels, change: &Change) -> Vec<Publish> {
    let (device, shadow) = (&change.device.device, &change.shadow);
    let mut publishes = Vec::new();
    if wanted.contains(Channel::Desired)
        && let Some(delta) = aws::delta(change)
    {
        publishes.push(push(identity, device, shadow, delta, change.version));
    }
    if wanted.contains(Channel::Documents)
        && let Some(documents) = aws::documents(change)
    {
        publishes.push(message(device, shadow, Channel::Documents, documents));
    }
    publishes
}

/// The message on `update/delta` for what is left to do.
pub(super) fn current(
    identity: &Identity,
    wanted: Channels,
    current: &Current<'_>,
) -> Option<Publish> {
    if !wanted.contains(Channel::Desired) || current.document.is_deleted() {
        return None;
    }
    let (device, shadow) = (&current.device.device, current.shadow);
    let delta = aws::difference(current.document, current.time, None)?;
    let version = current.document.version();
    Some(push(identity, device, shadow, delta, version))
}

/// A delta. To the device itself it is a push; others only look on.
fn push(
    identity: &Identity,
    device: &DeviceId,
    shadow: &ShadowName,
    delta: String,
    version: u64,
) -> Publish {
    let publish = message(device, shadow, Channel::Desired, delta);
    if identity.device.as_ref() == Some(device) {
        publish.pushing(version, Confirm::Puback)
    } else {
        publish
    }
}

fn message(device: &DeviceId, shadow: &ShadowName, channel: Channel, payload: String) -> Publish {
    let topic = topic::of_channel(device, shadow, channel);
    Publish::new(topic, payload, Route::Shadow(channel))
}
