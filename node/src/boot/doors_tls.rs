//! TLS of the doors for clients.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Config;
use crate::reload::keep_current;
use crate::shutdown::Running;
use crate::tls::{Door, Tls, TlsFiles};

use super::Error;

/// TLS of the doors that have it.
pub(super) struct DoorsTls {
    pub(super) grpc: Option<Tls>,
    pub(super) http: Option<Tls>,
    pub(super) mqtt: Option<Tls>,
}

impl DoorsTls {
    /// Reads the files that the configuration names.
    pub(super) fn open(config: &Config) -> Result<DoorsTls, Error> {
        let (api, http, mqtt) = (&config.api, &config.http, &config.mqtt);
        let grpc = [
            &api.tls_certificate,
            &api.tls_key,
            &api.tls_client_authority,
        ];
        let http = [
            &http.tls_certificate,
            &http.tls_key,
            &http.tls_client_authority,
        ];
        // The MQTT door has a port of its own for it.
        let secure = (!mqtt.tls_listen.is_empty()).then_some([
            &mqtt.tls_certificate,
            &mqtt.tls_key,
            &mqtt.tls_client_authority,
        ]);
        Ok(DoorsTls {
            grpc: open(Door::Grpc, grpc)?,
            http: open(Door::Http, http)?,
            mqtt: secure.map_or(Ok(None), |files| open(Door::Mqtt, files))?,
        })
    }

    /// Takes files that are replaced while the node runs.
    pub(super) fn keep_current(&self, running: &Running) {
        for tls in [&self.grpc, &self.http, &self.mqtt].into_iter().flatten() {
            let watch = keep_current(tls.clone(), running.stop_watches.clone());
            running.doors.spawn(watch);
        }
    }
}

/// Without a certificate a door is plain.
fn open(door: Door, [certificate, key, authority]: [&String; 3]) -> Result<Option<Tls>, Error> {
    if certificate.is_empty() {
        return Ok(None);
    }
    let files = TlsFiles {
        certificate: PathBuf::from(certificate),
        key: PathBuf::from(key),
        client_authority: (!authority.is_empty()).then(|| PathBuf::from(authority)),
    };
    let opened = Tls::open(door, files).map(Some);
    opened.map_err(|error| Error::DoorTls(door, Arc::new(error)))
}
