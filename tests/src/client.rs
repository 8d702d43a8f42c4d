//! The gRPC client of the tests: short names, a deadline on every call, errors by reason.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use antumbra_proto::v1;
use v1::shadows_client::ShadowsClient;
use v1::watch_shadows_response::Event;

/// Deadline of a call unless a test says otherwise.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Why a call did not give what was asked for.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// gRPC status code.
    pub code: Code,
    /// Reason of the `ErrorInfo` detail; empty when the node did not say it.
    pub reason: String,
    /// Text for people.
    pub message: String,
}

impl Refusal {
    /// Whether the node itself said that nothing was changed. A broken connection says nothing.
    pub fn certainly_not_applied(&self) -> bool {
        let unsure = [
            Code::Unknown,
            Code::DeadlineExceeded,
            Code::Internal,
            Code::DataLoss,
        ];
        !self.reason.is_empty() && !unsure.contains(&self.code)
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info();
        Refusal {
            code: status.code(),
            reason: info.map(|info| info.reason).unwrap_or_default(),
            message: status.message().to_owned(),
        }
    }
}

/// A client of one node. Cheap to clone; clones share a connection.
#[derive(Clone)]
pub struct Client {
    shadows: ShadowsClient<Channel>,
    limit: Duration,
    bearer: Option<MetadataValue<Ascii>>,
}

impl Client {
    /// A client that connects when it is first used, and again when the node comes back.
    pub fn new(address: SocketAddr) -> Client {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .expect("an address makes a valid URI")
            .connect_timeout(Duration::from_secs(2));
        let shadows = ShadowsClient::new(endpoint.connect_lazy())
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(256 << 20);
        Client {
            shadows,
            limit: LIMIT,
            bearer: None,
        }
    }

    /// The same connection with a token that is shown with every request.
    pub fn with_token(&self, token: &str) -> Client {
        let bearer = format!("Bearer {token}").parse();
        Client {
            bearer: Some(bearer.expect("a token is plain text")),
            ..self.clone()
        }
    }

    /// The same connection with another deadline.
    pub fn with_limit(&self, limit: Duration) -> Client {
        Client {
            limit,
            ..self.clone()
        }
    }

    /// The generated client, for calls that have no short name here.
    pub fn raw(&self) -> ShadowsClient<Channel> {
        self.shadows.clone()
    }

    /// A request with this client's deadline.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.limit);
        if let Some(bearer) = &self.bearer {
            request
                .metadata_mut()
                .insert("authorization", bearer.clone());
        }
        request
    }

    /// Sends one update as it is.
    pub async fn send(
        &self,
        update: v1::UpdateShadowRequest,
    ) -> Result<v1::UpdateShadowResponse, Refusal> {
        let mut shadows = self.raw();
        let answered = shadows.update_shadow(self.request(update));
        match tokio::time::timeout(self.limit + LIMIT, answered).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Status::deadline_exceeded("no answer at all").into()),
        }
    }

    /// Merges JSON into `desired` of a classic shadow.
    pub async fn update(
        &self,
        device: &str,
        desired: &str,
    ) -> Result<v1::UpdateShadowResponse, Refusal> {
        self.send(desired_update(device, desired)).await
    }

    /// Reads a classic shadow with everything in it.
    pub async fn get(&self, device: &str) -> Result<v1::GetShadowResponse, Refusal> {
        let answer = self
            .raw()
            .get_shadow(self.request(get_request(device)))
            .await?;
        Ok(answer.into_inner())
    }

    /// As [`Client::get`]; `None` when the shadow does not exist.
    pub async fn find(&self, device: &str) -> Result<Option<v1::Shadow>, Refusal> {
        match self.get(device).await {
            Ok(answer) => Ok(answer.shadow),
            Err(refusal) if refusal.code == Code::NotFound => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Reads many classic shadows, 100 per call, all of which must exist.
    pub async fn get_all(&self, devices: &[String]) -> Result<BTreeMap<String, v1::Shadow>> {
        let mut found = BTreeMap::new();
        for some in devices.chunks(100) {
            let requests = some.iter().map(|device| get_request(device)).collect();
            let request = self.request(v1::BatchGetShadowsRequest { requests });
            let results = self
                .raw()
                .batch_get_shadows(request)
                .await?
                .into_inner()
                .results;
            anyhow::ensure!(results.len() == some.len(), "{} results", results.len());
            for (device, result) in some.iter().zip(results) {
                let reason = format!("{device}: {} {}", result.reason, result.message);
                let shadow = result
                    .response
                    .and_then(|answer| answer.shadow)
                    .context(reason)?;
                found.insert(device.clone(), shadow);
            }
        }
        Ok(found)
    }

    /// Updates many classic shadows with one `desired`, 100 per call.
    pub async fn update_all(&self, devices: &[String], desired: &str) -> Result<()> {
        for some in devices.chunks(100) {
            let requests = some
                .iter()
                .map(|device| desired_update(device, desired))
                .collect();
            let request = self.request(v1::BatchUpdateShadowsRequest { requests });
            let results = self
                .raw()
                .batch_update_shadows(request)
                .await?
                .into_inner()
                .results;
            for (device, result) in some.iter().zip(&results) {
                if result.code != 0 {
                    bail!("{device}: {} {}", result.reason, result.message);
                }
            }
        }
        Ok(())
    }

    /// All device ids of the default tenant.
    pub async fn list_devices(&self) -> Result<Vec<String>> {
        let mut devices = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListDevicesRequest {
                page_size: 1000,
                page_token,
                ..Default::default()
            };
            let page = self
                .raw()
                .list_devices(self.request(request))
                .await?
                .into_inner();
            devices.extend(page.device_ids);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(devices);
            }
        }
    }

    /// Reads the opening documents of a watch of devices whose id starts with `prefix`, and gives
    /// them with the cursor from which changes follow.
    pub async fn opening(&self, prefix: &str) -> Result<(BTreeMap<String, v1::Shadow>, String)> {
        let mut stream = self.watch(prefix, "").await?;
        let mut documents = BTreeMap::new();
        loop {
            let message = tokio::time::timeout(self.limit, stream.message()).await??;
            let message = message.context("the watch ended")?;
            match message.event {
                Some(Event::Document(shadow)) => {
                    documents.insert(full_name(shadow.key.as_ref()), shadow);
                }
                Some(Event::Synced(_)) => return Ok((documents, message.cursor)),
                Some(Event::Bookmark(_)) => {}
                other => bail!("{other:?} before synced"),
            }
        }
    }

    /// Opens a watch of devices whose id starts with `prefix`, from a cursor unless it is empty.
    pub async fn watch(
        &self,
        prefix: &str,
        cursor: &str,
    ) -> Result<tonic::Streaming<v1::WatchShadowsResponse>> {
        let request = v1::WatchShadowsRequest {
            device_id_prefix: prefix.to_owned(),
            cursor: cursor.to_owned(),
            ..Default::default()
        };
        // No deadline: a watch lives as long as its reader.
        let mut shadows = self.raw();
        let opened = shadows.watch_shadows(Request::new(request));
        Ok(tokio::time::timeout(self.limit, opened)
            .await??
            .into_inner())
    }

    /// Reads changes from `cursor` until `enough` says so.
    pub async fn changes(
        &self,
        prefix: &str,
        cursor: &str,
        mut enough: impl FnMut(&[v1::Change]) -> bool,
    ) -> Result<Vec<v1::Change>> {
        let mut stream = self.watch(prefix, cursor).await?;
        let mut changes = Vec::new();
        let mut heard = Instant::now();
        while !enough(&changes) {
            // Bookmarks say that the stream is alive, not that anything is still to come.
            let left = self.limit.saturating_sub(heard.elapsed());
            let message = tokio::time::timeout(left, stream.message()).await;
            let message = message.with_context(|| format!("after {} changes", changes.len()))??;
            match message.context("the watch ended")?.event {
                Some(Event::Change(change)) => {
                    changes.push(change);
                    heard = Instant::now();
                }
                Some(Event::Bookmark(_) | Event::Synced(_)) => {}
                other => bail!("{other:?} instead of a change, after {}", changes.len()),
            }
        }
        Ok(changes)
    }
}

/// `device` or `device/shadow`.
pub fn full_name(key: Option<&v1::ShadowKey>) -> String {
    match key {
        None => String::new(),
        Some(key) if key.shadow_name.is_empty() => key.device_id.clone(),
        Some(key) => format!("{}/{}", key.device_id, key.shadow_name),
    }
}

/// The key of a classic shadow.
pub fn key(device: &str) -> Option<v1::ShadowKey> {
    Some(v1::ShadowKey {
        device_id: device.to_owned(),
        ..Default::default()
    })
}

/// An update of `desired` of a classic shadow.
pub fn desired_update(device: &str, desired: &str) -> v1::UpdateShadowRequest {
    v1::UpdateShadowRequest {
        key: key(device),
        desired_json: Some(desired.to_owned()),
        ..Default::default()
    }
}

/// A read of everything in a classic shadow.
pub fn get_request(device: &str) -> v1::GetShadowRequest {
    v1::GetShadowRequest {
        key: key(device),
        include: Some(v1::Include {
            state: true,
            delta: true,
            metadata: true,
        }),
        ..Default::default()
    }
}
