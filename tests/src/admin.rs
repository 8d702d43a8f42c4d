//! Tenants and credentials for tests, made at the gRPC door of a node that is open to everybody.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use antumbra_proto::admin::v1::admin_client::AdminClient;
use antumbra_proto::admin::v1::{CreateCredentialRequest, CreateTenantRequest, TenantLimits};

use crate::client::LIMIT;
use crate::mqtt::{Connect, Version};

/// Makes tenants and credentials.
#[derive(Clone)]
pub struct Admin {
    client: AdminClient<Channel>,
}

/// A backend of a tenant, by its token.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Name of the credential.
    pub id: String,
    /// What it shows.
    pub token: String,
}

impl Admin {
    /// Talks to the gRPC door of a node.
    pub fn new(address: SocketAddr) -> Admin {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .expect("an address makes a valid URI");
        Admin {
            client: AdminClient::new(endpoint.connect_lazy()),
        }
    }

    /// Makes a tenant with these limits, and a backend of it that may do everything there.
    pub async fn tenant(&self, name: &str, limits: TenantLimits) -> Result<Backend> {
        let mut request = Request::new(CreateTenantRequest {
            name: name.to_owned(),
            limits: Some(limits),
        });
        request.set_timeout(LIMIT);
        self.client.clone().create_tenant(request).await?;
        let id = format!("{name}-backend");
        let mut request = Request::new(CreateCredentialRequest {
            tenant: name.to_owned(),
            id: id.clone(),
            ..CreateCredentialRequest::default()
        });
        request.set_timeout(LIMIT);
        let made = self.client.clone().create_credential(request).await?;
        let token = made.into_inner().token;
        ensure!(!token.is_empty(), "no token for {id}");
        Ok(Backend { id, token })
    }
}

impl Backend {
    /// A CONNECT that shows the token.
    pub fn connect(&self, version: Version, client_id: &str) -> Connect {
        Connect {
            user: Some(self.id.clone()),
            password: Some(self.token.clone().into_bytes()),
            ..Connect::new(version, client_id)
        }
    }

    /// The value of the header `authorization`.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.token)
    }
}
