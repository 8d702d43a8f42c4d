//! Clients as operators and backends see them: connected or not, and how to close a connection.

use antumbra_shadow::{DeviceId, Tenant, Time};
use tokio::time::Instant;

use super::dialect::event::DisconnectReason;
use super::presence::{aws_reason, number_of, reason_of};
use super::records::{ClientKey, Expect, Records};
use crate::error::Error;
use crate::shadows::Shadows;

/// Attempts to write a record that its connection writes, too.
const ATTEMPTS_MAX: usize = 5;

/// What is known of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    /// Whether it is connected.
    pub(crate) connected: bool,
    /// Since when it is, or is not.
    pub(crate) since: Time,
    /// The device, when it is one.
    pub(crate) device: Option<DeviceId>,
    /// Keep-alive that it asked for, in seconds.
    pub(crate) keep_alive_s: u32,
    /// Seconds that its session outlives the connection.
    pub(crate) expiry_s: u32,
    /// Why it is not connected any more.
    pub(crate) reason: Option<&'static str>,
}

/// All clients of the cluster.
pub(crate) struct Clients {
    records: Records,
}

impl Clients {
    pub(crate) fn new(shadows: &Shadows) -> Clients {
        Clients {
            records: Records::new(shadows.clone()),
        }
    }

    /// What is known of a client; `NotFound` when nothing is. May be dropped midway.
    pub(crate) async fn get(
        &self,
        tenant: &Tenant,
        client_id: &str,
        deadline: Instant,
    ) -> Result<Client, Error> {
        let client = ClientKey::new(tenant, client_id);
        let (record, _) = self
            .records
            .read(client, deadline)
            .await?
            .ok_or(Error::NotFound)?;
        Ok(Client {
            connected: record.connected,
            since: Time(record.since_ms),
            device: record.device.clone(),
            keep_alive_s: record.keep_alive_s,
            expiry_s: record.expiry_s,
            reason: record
                .reason
                .map(|number| aws_reason(reason_of(Some(number)))),
        })
    }

    /// Closes the connection of a client, wherever it is; with `is_clean` its session ends, too.
    /// `NotFound` when there is neither. May be dropped midway.
    pub(crate) async fn disconnect(
        &self,
        tenant: &Tenant,
        client_id: &str,
        is_clean: bool,
        now: Time,
        deadline: Instant,
    ) -> Result<(), Error> {
        let client = ClientKey::new(tenant, client_id);
        for _ in 0..ATTEMPTS_MAX {
            let found = self.records.read(client, deadline).await?;
            let (mut record, epoch) = found.ok_or(Error::NotFound)?;
            if !record.connected && !is_clean {
                return Err(Error::NotFound);
            }
            if is_clean {
                record.expiry_s = 0;
            }
            let reason = number_of(DisconnectReason::ByOperator);
            record.end(reason, epoch, now.milliseconds());
            let written = self.records.write(&record, Expect::Epoch(epoch), deadline);
            match written.await {
                // The connection has written meanwhile.
                Err(Error::VersionConflict { .. }) => {}
                written => return written.map(|_| ()),
            }
        }
        Err(Error::Overloaded)
    }
}
