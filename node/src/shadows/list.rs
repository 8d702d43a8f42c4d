//! Lists: the shadows of a device, and the devices of a tenant. Linearizable: a barrier, then a
//! scan in key order, which is hash order. A page does bounded work, so it may be empty and still
//! have a successor. Every shard answers its part of a page, on this node or on another.

use antumbra_raft::Key;
use antumbra_shadow::{DeviceId, DeviceKey, DeviceRow, ShadowName, Tenant, Time};
use tokio::time::{Instant, timeout_at};

use crate::access::Verb;
use crate::error::Error;

use super::context::{ShardContext, decode_document, read_failed, readable};
use super::opaque::{self, Tag};
use super::question::{Question, Reply};
use super::{Caller, Shadows, keys};

/// The largest page.
pub(crate) const PAGE_SIZE_MAX: usize = 1000;

/// Rows that one page looks at.
const ROWS_PER_PAGE_MAX: usize = 20_000;

/// Rows that one step of a scan holds in memory.
const ROWS_PER_STEP: usize = 128;

/// Which page of a list.
#[derive(Debug, Clone, Copy)]
pub struct ListRequest<'a> {
    /// Entries per page, 1 to 1000.
    pub page_size: usize,
    /// The token of the page before; empty for the first.
    pub page_token: &'a str,
}

/// One page of the shadows of a device.
#[derive(Debug, Clone, Default)]
pub struct ShadowPage {
    /// By name, in byte order; the classic shadow first.
    pub shadows: Vec<ShadowSummary>,
    /// Token of the next page; empty on the last one.
    pub next_page_token: String,
}

/// A shadow in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowSummary {
    /// Name of the shadow.
    pub name: ShadowName,
    /// Its version.
    pub version: u64,
    /// Its last change.
    pub updated: Time,
}

/// One page of the devices of a tenant.
#[derive(Debug, Clone, Default)]
pub struct DevicePage {
    /// In the order of their hash.
    pub devices: Vec<DeviceId>,
    /// Token of the next page; empty on the last one.
    pub next_page_token: String,
}

impl Shadows {
    /// Lists the shadows of a device; deleted ones are not listed. May be dropped midway.
    pub async fn list_shadows(
        &self,
        caller: &Caller,
        device: &DeviceKey,
        page: ListRequest<'_>,
        deadline: Instant,
    ) -> Result<ShadowPage, Error> {
        caller.may_touch(Verb::Read, device)?;
        let list = List::of_shadows(device);
        let prefix = keys::documents_of(device);
        let size = page_size(page)?;
        let from = match list.resume(page.page_token)? {
            Some(key) if !key.as_bytes().starts_with(prefix.as_bytes()) => return Err(bad_token()),
            Some(key) => key,
            None => prefix.clone(),
        };
        let shard = self.table().shard_of(device)?;
        let question = Question::Shadows {
            device: device.clone(),
            from,
            size,
        };
        let asked = self.ask(caller.tenant.as_ref(), shard, &question, deadline);
        let Reply::Shadows(found) = asked.await? else {
            return Err(Error::Internal("shadows were asked for"));
        };
        Ok(ShadowPage {
            next_page_token: found.next.map_or_else(String::new, |key| list.token(&key)),
            shadows: found.entries,
        })
    }

    /// Lists the devices of a tenant that have at least one shadow and whose id starts with
    /// `prefix`. May be dropped midway.
    pub async fn list_devices(
        &self,
        caller: &Caller,
        tenant: &Tenant,
        prefix: &str,
        page: ListRequest<'_>,
        deadline: Instant,
    ) -> Result<DevicePage, Error> {
        caller.may_read_all(tenant, prefix)?;
        let list = List::of_devices(tenant, prefix);
        let size = page_size(page)?;
        let from = list.resume(page.page_token)?;
        let filter = DeviceFilter {
            tenant: tenant.clone(),
            prefix: prefix.to_owned(),
        };
        let scan = self.scan_devices(caller.tenant.as_ref(), from, filter, size, deadline);
        let found = scan.await?;
        Ok(DevicePage {
            next_page_token: found.next.map_or_else(String::new, |key| list.token(&key)),
            devices: found.entries,
        })
    }

    /// Goes through the shards in hash order until the page is full or its work is done.
    async fn scan_devices(
        &self,
        only: Option<&Tenant>,
        mut from: Option<Key>,
        filter: DeviceFilter,
        size: usize,
        deadline: Instant,
    ) -> Result<Found<DeviceId>, Error> {
        let start = from.as_ref().map_or(0, hash_of);
        let mut page = Found::default();
        for place in self.table().map()?.places() {
            if place.range.end < start {
                continue;
            }
            let first = keys::devices_from(place.range.start);
            let begin = from.take().filter(|key| *key > first).unwrap_or(first);
            if page.entries.len() >= size || page.scanned >= ROWS_PER_PAGE_MAX {
                page.next = Some(begin);
                return Ok(page);
            }
            let question = Question::Devices {
                filter: filter.clone(),
                from: begin,
                size: size - page.entries.len(),
                rows_max: ROWS_PER_PAGE_MAX - page.scanned,
            };
            let asked = self.ask(only, place.shard, &question, deadline);
            let Reply::Devices(found) = asked.await? else {
                return Err(Error::Internal("devices were asked for"));
            };
            page.entries.extend(found.entries);
            page.scanned += found.scanned;
            if found.next.is_some() {
                page.next = found.next;
                return Ok(page);
            }
        }
        Ok(page)
    }
}

/// What a scan found so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found<T> {
    pub(crate) entries: Vec<T>,
    /// Rows that were looked at.
    pub(crate) scanned: usize,
    /// Where to go on; `None` when the range is exhausted.
    pub(crate) next: Option<Key>,
}

impl<T> Default for Found<T> {
    fn default() -> Found<T> {
        Found {
            entries: Vec::new(),
            scanned: 0,
            next: None,
        }
    }
}

/// Which devices a list is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceFilter {
    pub(crate) tenant: Tenant,
    /// Start of the device id.
    pub(crate) prefix: String,
}

/// Lists the shadows of a device from a key on.
pub(super) fn shadows_step(
    context: &ShardContext,
    device: &DeviceKey,
    from: Key,
    size: usize,
) -> Result<Found<ShadowSummary>, Error> {
    let size = size.min(PAGE_SIZE_MAX);
    let prefix = keys::documents_of(device);
    let end = prefix.prefix_end();
    let mut from = from.max(prefix);
    // Pinned, because the rows of a replica that installs a snapshot come and go.
    let (view, _) = context.shard.pinned().map_err(read_failed)?;
    let mut found = Found::default();
    loop {
        let rows = view.scan(&from, &end, ROWS_PER_STEP).map_err(read_failed)?;
        let exhausted = rows.len() < ROWS_PER_STEP;
        for (key, value) in rows {
            let (device, name) = readable(keys::decode_document(&key))?;
            let key = keys::document(&device, &name);
            if found.entries.len() >= size || found.scanned >= ROWS_PER_PAGE_MAX {
                found.next = Some(key);
                return Ok(found);
            }
            found.scanned += 1;
            from = key.successor();
            let document = decode_document(value)?;
            if !document.is_deleted() {
                found.entries.push(ShadowSummary {
                    name,
                    version: document.version(),
                    updated: document.updated(),
                });
            }
        }
        if exhausted {
            return Ok(found);
        }
    }
}

/// Lists the devices of a shard from a key on: at most so many, looking at at most so many rows.
pub(super) fn devices_step(
    context: &ShardContext,
    filter: &DeviceFilter,
    from: Key,
    (size, rows_max): (usize, usize),
) -> Result<Found<DeviceId>, Error> {
    let (size, rows_max) = (size.min(PAGE_SIZE_MAX), rows_max.min(ROWS_PER_PAGE_MAX));
    let end = keys::devices_end(context.range.end);
    let wanted = keys::behind_hash_of(&filter.tenant, &filter.prefix);
    let mut from = from.max(keys::devices_from(context.range.start));
    let (view, _) = context.shard.pinned().map_err(read_failed)?;
    let mut found = Found::default();
    loop {
        let rows = view.scan(&from, &end, ROWS_PER_STEP).map_err(read_failed)?;
        for (key, value) in &rows {
            if found.entries.len() >= size || found.scanned >= rows_max {
                found.next = Some(keys::device_row(&readable(keys::decode_device(key))?));
                return Ok(found);
            }
            found.scanned += 1;
            if keys::behind_hash(key).starts_with(&wanted)
                && readable(DeviceRow::decode(value).ok())?.shadows > 0
            {
                let device = readable(keys::decode_device(key))?;
                found.entries.push(device.device);
            }
        }
        let Some((last, _)) = rows.last().filter(|_| rows.len() == ROWS_PER_STEP) else {
            return Ok(found);
        };
        from = keys::device_row(&readable(keys::decode_device(last))?).successor();
    }
}

/// A list that page tokens belong to: a token of another list is refused.
struct List {
    fingerprint: [u8; 4],
    /// The key of its table that goes on with these bytes behind the hash.
    key_at: fn(u32, &[u8]) -> Key,
}

impl List {
    fn of_shadows(device: &DeviceKey) -> List {
        let parts = ["shadows", device.tenant.as_str(), device.device.as_str()];
        List::new(&parts, keys::document_at)
    }

    fn of_devices(tenant: &Tenant, prefix: &str) -> List {
        List::new(&["devices", tenant.as_str(), prefix], keys::device_row_at)
    }

    fn new(parts: &[&str], key_at: fn(u32, &[u8]) -> Key) -> List {
        List {
            key_at,
            fingerprint: crc32fast::hash(parts.join("\0").as_bytes()).to_be_bytes(),
        }
    }

    /// The token that makes the next page begin at `key`.
    fn token(&self, key: &Key) -> String {
        let hash = hash_of(key).to_be_bytes();
        let payload = [&self.fingerprint[..], &hash[..], key.rest()].concat();
        opaque::seal(Tag::PageV1, &payload)
    }

    /// Where the page begins; `None` for the first one.
    fn resume(&self, token: &str) -> Result<Option<Key>, Error> {
        if token.is_empty() {
            return Ok(None);
        }
        let payload = opaque::open(Tag::PageV1, token).ok_or_else(bad_token)?;
        let key = payload
            .strip_prefix(&self.fingerprint)
            .and_then(|place| place.split_first_chunk::<4>())
            .map(|(hash, rest)| (self.key_at)(u32::from_be_bytes(*hash), rest))
            .ok_or_else(bad_token)?;
        Ok(Some(key))
    }
}

fn hash_of(key: &Key) -> u32 {
    let hash = key.as_bytes().get(1..5).and_then(|h| h.try_into().ok());
    u32::from_be_bytes(hash.expect("every key has a kind byte and a number"))
}

fn page_size(page: ListRequest<'_>) -> Result<usize, Error> {
    if (1..=PAGE_SIZE_MAX).contains(&page.page_size) {
        Ok(page.page_size)
    } else {
        Err(Error::invalid("page_size", "must be 1 to 1000"))
    }
}

fn bad_token() -> Error {
    Error::invalid("page_token", "was not made by this list")
}

/// The result of some work, if it is there by the deadline.
pub(super) async fn within<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout_at(deadline, work)
        .await
        .unwrap_or(Err(Error::Deadline))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn device() -> DeviceKey {
        DeviceKey::new(Tenant::default(), DeviceId::parse("pump").unwrap())
    }

    #[test]
    fn token_leads_back_to_its_key() {
        let list = List::of_shadows(&device());
        let key = keys::document(&device(), &ShadowName::parse("cfg").unwrap());
        assert_eq!(list.resume(&list.token(&key)).unwrap(), Some(key));
        assert_eq!(list.resume("").unwrap(), None);
    }

    /// A token used with another query would silently skip entries.
    #[test]
    fn token_of_another_list_is_refused() {
        let key = keys::device_row(&device());
        let token = List::of_devices(&Tenant::default(), "p").token(&key);
        assert!(
            List::of_devices(&Tenant::default(), "q")
                .resume(&token)
                .is_err()
        );
        assert!(List::of_shadows(&device()).resume(&token).is_err());
        assert!(
            List::of_devices(&Tenant::default(), "p")
                .resume("x")
                .is_err()
        );
    }
}
