//! Rows as they are outside of the shard that wrote them: without places in its feed, which mean
//! nothing elsewhere.

use bytes::Bytes;

use crate::apply::RowKey;
use crate::document::{Document, Head};
use crate::id::Position;
use crate::outcome::Outcome;
use crate::patch::Section;

use super::device::{OrderRow, RequestRow};
use super::{DecodeError, DeviceRow, encode_document};

/// Checks a row whole and gives it without any place in a feed. A row that comes back as it went in can
/// be kept by any shard. Everything else in it stays: versions, times, remembered request ids.
pub fn detach(key: &RowKey, value: &Bytes) -> Result<Bytes, DecodeError> {
    match key {
        RowKey::Device(_) => DeviceRow::decode(value).map(|_| value.clone()),
        RowKey::RequestOrder(..) => OrderRow::decode(value).map(|_| value.clone()),
        RowKey::Document(..) => {
            let document = Document::decode(value.clone())?;
            let head = Head {
                position: Position::default(),
                ..document.head
            };
            let [desired, reported] = Section::ALL.map(|section| document.leaves(section));
            Ok(encode_document(head, desired, reported).encoded)
        }
        RowKey::Request(..) => {
            let mut row = RequestRow::decode(value)?;
            if let Outcome::Accepted(items) = &mut row.outcome {
                for item in items {
                    item.position = Position::default();
                }
            }
            Ok(row.encode().into())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::id::{DeviceId, DeviceKey, RequestId, ShadowName, Tenant, Time};
    use crate::leaves::{Form, Stamp, Writer};
    use crate::outcome::AcceptedItem;

    use super::*;

    const PLACE: Position = Position {
        index: 900,
        sequence: 7,
    };

    fn device() -> DeviceKey {
        DeviceKey::new(Tenant::default(), DeviceId::parse("pump").unwrap())
    }

    fn leaves() -> Vec<u8> {
        let mut out = Writer::new(Form::Stamped, 0);
        let stamp = Stamp {
            time: 5,
            version: 3,
        };
        out.put(b"a\0", b"1", stamp);
        out.finish()
    }

    /// What a shard adds of its own goes, everything that a reader sees stays.
    #[test]
    fn document_loses_its_place_and_nothing_else() {
        let head = Head {
            version: 3,
            created: Time(4),
            updated: Time(5),
            proposed_version: Some(8),
            position: PLACE,
            json_bytes: [7, 2],
            ..Head::default()
        };
        let document = encode_document(head, &leaves(), &[]);
        let key = RowKey::Document(device(), ShadowName::classic());
        let detached = detach(&key, &document.encoded).unwrap();
        assert_ne!(detached, document.encoded);
        let read = Document::decode(detached.clone()).unwrap();
        let expected = Head {
            position: Position::default(),
            ..head
        };
        assert_eq!(read.head, expected);
        assert_eq!(
            read.state_json(Section::Desired, &[]).unwrap(),
            r#"{"a":1}"#
        );
        assert_eq!(detach(&key, &detached).unwrap(), detached);
    }

    /// The cursor in the outcome of a retry would be one of another feed.
    #[test]
    fn remembered_outcome_loses_its_places() {
        let item = AcceptedItem {
            shadow: ShadowName::classic(),
            version: 3,
            time: Time(5),
            position: PLACE,
        };
        let row = RequestRow {
            hash: 11,
            outcome: Outcome::Accepted(vec![item.clone()]),
        };
        let key = RowKey::Request(device(), RequestId::parse("r").unwrap());
        let detached = detach(&key, &row.encode().into()).unwrap();
        let expected = AcceptedItem {
            position: Position::default(),
            ..item
        };
        let read = RequestRow::decode(&detached).unwrap();
        assert_eq!(read.hash, 11);
        assert_eq!(read.outcome, Outcome::Accepted(vec![expected]));
        assert_eq!(detach(&key, &detached).unwrap(), detached);
    }

    #[test]
    fn rows_without_a_place_stay_as_they_are_and_others_are_refused() {
        let counters = Bytes::from(DeviceRow::default().encode());
        let key = RowKey::Device(device());
        assert_eq!(detach(&key, &counters).unwrap(), counters);
        let order = OrderRow {
            request_id: RequestId::parse("r").unwrap(),
            time: Time(5),
        };
        let order = Bytes::from(order.encode());
        let order_key = RowKey::RequestOrder(device(), 1);
        assert_eq!(detach(&order_key, &order).unwrap(), order);
        assert!(detach(&key, &order).is_err());
        assert!(detach(&order_key, &Bytes::new()).is_err());
    }
}
