//! The stored rows of a device beside its documents: counters and remembered request ids.

use bincode::{BorrowDecode, Encode};

use crate::id::{RequestId, Time};
use crate::outcome::Outcome;

use super::outcome::OutcomeV1;
use super::{DecodeError, Tag, malformed};

/// The counters of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceRow {
    /// Shadows that exist.
    pub shadows: u32,
    /// Names ever used, tombstones included.
    pub names: u32,
    /// Running number of the oldest request id that is remembered.
    pub(crate) requests_from: u64,
    /// Running number of the next request id.
    pub(crate) requests_to: u64,
    /// Command time of the oldest request id that is remembered.
    pub(crate) oldest_request: Time,
    /// Greatest command time of a request id that was forgotten.
    pub(crate) forgotten: Option<Time>,
    /// Greatest command time of a command with a request id.
    pub(crate) latest_request: Time,
}

#[derive(Encode, BorrowDecode)]
struct DeviceV1 {
    shadows: u32,
    names: u32,
    requests_from: u64,
    requests_to: u64,
    oldest_request: u64,
    forgotten: Option<u64>,
    latest_request: u64,
}

impl DeviceRow {
    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let shape: DeviceV1 = super::decode(Tag::DeviceV1, bytes)?;
        if shape.requests_from > shape.requests_to {
            return Err(DecodeError::Malformed);
        }
        Ok(Self {
            shadows: shape.shadows,
            names: shape.names,
            requests_from: shape.requests_from,
            requests_to: shape.requests_to,
            oldest_request: Time(shape.oldest_request),
            forgotten: shape.forgotten.map(Time),
            latest_request: Time(shape.latest_request),
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let shape = DeviceV1 {
            shadows: self.shadows,
            names: self.names,
            requests_from: self.requests_from,
            requests_to: self.requests_to,
            oldest_request: self.oldest_request.0,
            forgotten: self.forgotten.map(|time| time.0),
            latest_request: self.latest_request.0,
        };
        super::encode(Tag::DeviceV1, &shape, 64)
    }
}

/// What is remembered of an accepted command with a request id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestRow {
    pub(crate) hash: u128,
    pub(crate) outcome: Outcome,
}

#[derive(Encode, BorrowDecode)]
struct RequestV1<'a> {
    hash: u128,
    outcome: OutcomeV1<'a>,
}

impl RequestRow {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let shape: RequestV1<'_> = super::decode(Tag::RequestV1, bytes)?;
        Ok(Self {
            hash: shape.hash,
            outcome: Outcome::try_from(shape.outcome)?,
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let shape = RequestV1 {
            hash: self.hash,
            outcome: OutcomeV1::from(&self.outcome),
        };
        super::encode(Tag::RequestV1, &shape, 64)
    }
}

/// Which request id has a running number, and the command time at which it was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OrderRow {
    pub(crate) request_id: RequestId,
    pub(crate) time: Time,
}

#[derive(Encode, BorrowDecode)]
struct OrderV1<'a> {
    request_id: &'a str,
    time: u64,
}

impl OrderRow {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let shape: OrderV1<'_> = super::decode(Tag::OrderV1, bytes)?;
        Ok(Self {
            request_id: RequestId::parse(shape.request_id).map_err(malformed)?,
            time: Time(shape.time),
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let shape = OrderV1 {
            request_id: self.request_id.as_str(),
            time: self.time.0,
        };
        super::encode(Tag::OrderV1, &shape, 80)
    }
}
