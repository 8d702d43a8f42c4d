//! From what a caller showed to who it is.

use std::sync::Arc;

use antumbra_shadow::{DeviceId, Tenant, Time};
use rustls::pki_types::CertificateDer;

use super::certificate::{Authorities, Fingerprint, Registration, Subject, Vouched};
use super::directory::Directory;
use super::jwt::{self, Bearer};
use super::record::{AccessKeyId, CredentialId, CredentialRecord, Secret};
use super::roles::RoleName;
use super::settings::{AccessSettings, Mode};
use super::sigv4::{Authorization, SignedRequest, SigningSecret};
use super::token::{SECRET_BYTES_MAX, Token, Verified};
use super::{Denied, Principal, Proven};

/// All that is needed to judge what a caller shows, at one moment.
///
/// What is shown is judged, in the open mode too: only a caller that shows nothing comes in by
/// [`Authenticator::anonymous`]. Revoked, expired and unknown are always refused. Passwords and
/// tokens of ours take a hash unless [`Verified`] remembers them; everything else well below
/// one.
#[derive(Debug, Clone, Copy)]
pub struct Authenticator<'a> {
    /// The records.
    pub directory: &'a Directory,
    /// What the operator chose.
    pub settings: &'a AccessSettings,
    /// Passwords that were verified lately.
    pub verified: &'a Verified,
    /// The present time.
    pub now: Time,
}

/// Who a caller has proven to be, before its role is looked up.
struct Claim {
    tenant: Tenant,
    device: Option<DeviceId>,
    role: RoleName,
    name: Arc<str>,
    proven: Proven,
    expires: Option<Time>,
}

impl Authenticator<'_> {
    /// A caller that shows nothing. A client id that can be a device is one.
    ///
    /// # Errors
    ///
    /// When the door is not open to everybody.
    pub fn anonymous(&self, client_id: Option<&str>) -> Result<Principal, Denied> {
        if self.settings.mode != Mode::Open {
            return Err(Denied::Missing);
        }
        self.admit(Claim {
            tenant: Tenant::default_tenant(),
            device: client_id.and_then(|id| DeviceId::parse(id).ok()),
            role: RoleName::backend(),
            name: "anonymous".into(),
            proven: Proven::Open,
            expires: None,
        })
    }

    /// A caller with the chain of certificates that the TLS layer verified, its own first, and the
    /// authorities that its door trusts.
    ///
    /// # Errors
    ///
    /// When the certificate is for nobody, or for somebody who may not come in.
    pub fn certificate(
        &self,
        chain: &[CertificateDer<'_>],
        authorities: &Authorities,
    ) -> Result<Principal, Denied> {
        let leaf = chain.first().ok_or(Denied::Missing)?;
        let settings = &self.settings.certificate;
        let fingerprint = Fingerprint::of(leaf);
        let vouched = authorities.find(chain, self.now)?;
        if let Some(record) = self.directory.by_fingerprint(&fingerprint) {
            // Registered: the record says whom it is for, and the certificate only when it ends.
            let subject = Subject::read(leaf, &[], self.now)?;
            check_bound(&vouched, &record.tenant)?;
            let mut principal = self.credential(record)?;
            let end = principal.expires.unwrap_or(subject.expires);
            principal.expires = Some(end.min(subject.expires));
            return Ok(principal);
        }
        if settings.registration == Registration::Required {
            return Err(Denied::Unknown);
        }
        let subject = Subject::read(leaf, &settings.rules, self.now)?;
        let tenant = match (subject.tenant, &vouched.tenant) {
            (Some(tenant), _) => tenant,
            (None, Some(bound)) => bound.clone(),
            (None, None) => settings.tenant.clone(),
        };
        check_bound(&vouched, &tenant)?;
        let role = match (subject.role, &subject.device) {
            (Some(role), _) if settings.roles.contains(&role) => role,
            (Some(_), _) => return Err(Denied::Overreach("role")),
            (None, Some(_)) => settings.role.clone(),
            (None, None) => return Err(Denied::Malformed("the certificate names nobody")),
        };
        self.admit(Claim {
            tenant,
            device: subject.device,
            role,
            name: format!("certificate:{fingerprint}").into(),
            proven: Proven::Certificate(fingerprint),
            expires: Some(subject.expires),
        })
    }

    /// A caller with a user name and a password: that of a credential, a token of ours for it, or a
    /// signed token, which says itself whom it is for.
    ///
    /// # Errors
    ///
    /// When there is no such credential, or the password is not its own.
    pub fn password(&self, user: &str, password: &[u8]) -> Result<Principal, Denied> {
        if !self.settings.issuers.is_empty() && jwt::looks_like_token(password) {
            return self.signed_token(password);
        }
        if password.len() > SECRET_BYTES_MAX {
            return Err(Denied::TooLarge);
        }
        if password.is_empty() {
            return Err(Denied::Missing);
        }
        if Token::looks_like(password) {
            let token = Token::parse(password)?;
            let record = self.directory.credential(&token.record);
            let record = record.ok_or(Denied::Unknown)?;
            let device = record.device.as_ref().map(DeviceId::as_str);
            if user != record.id.as_str() && Some(user) != device {
                return Err(Denied::Wrong);
            }
            return self.secret(record, token.secret());
        }
        let id = CredentialId::parse(user).map_err(|_| Denied::Unknown)?;
        let record = self.directory.credential(&id).ok_or(Denied::Unknown)?;
        self.secret(record, password)
    }

    /// A caller with a token alone: one of ours, or a signed one.
    ///
    /// # Errors
    ///
    /// When it is neither, or not good.
    pub fn bearer(&self, token: &[u8]) -> Result<Principal, Denied> {
        if token.is_empty() {
            return Err(Denied::Missing);
        }
        if !Token::looks_like(token) {
            return self.signed_token(token);
        }
        let token = Token::parse(token)?;
        let record = self.directory.credential(&token.record);
        self.secret(record.ok_or(Denied::Unknown)?, token.secret())
    }

    /// A caller whose request is signed with an access key.
    ///
    /// # Errors
    ///
    /// When there is no such key, or it did not sign this request now.
    pub fn signed(&self, request: &SignedRequest<'_>) -> Result<Principal, Denied> {
        let authorization = Authorization::read(request)?;
        let id = AccessKeyId::parse(authorization.access_key).map_err(|_| Denied::Unknown)?;
        let record = self.directory.by_access_key(&id).ok_or(Denied::Unknown)?;
        let Secret::AccessKey { secret, .. } = &record.secret else {
            return Err(Denied::Unknown);
        };
        record.standing(self.now)?;
        let skew = self.settings.signature_skew;
        authorization.verify(request, secret, skew, self.now)?;
        self.credential(record)
    }

    /// A secret that both sides know, for proofs of which only a dialect knows the form, and whom
    /// the caller is once the dialect finds the proof good.
    ///
    /// # Errors
    ///
    /// When there is no such credential, or it may not be used.
    pub fn shared_secret(&self, record: &str) -> Result<(&SigningSecret, Principal), Denied> {
        let id = CredentialId::parse(record).map_err(|_| Denied::Unknown)?;
        let record = self.directory.credential(&id).ok_or(Denied::Unknown)?;
        match &record.secret {
            Secret::AccessKey { secret, .. } => Ok((secret, self.credential(record)?)),
            _ => Err(Denied::Unsupported("signatures with this credential")),
        }
    }

    /// The same caller by the records and the time of now: what it may do can have changed. For
    /// every session and stream when the directory changes.
    ///
    /// # Errors
    ///
    /// When the caller may no longer be here.
    pub fn renew(&self, principal: &Principal) -> Result<Principal, Denied> {
        if principal.is_expired(self.now) {
            return Err(Denied::Expired);
        }
        let mut renewed = match &principal.proven {
            Proven::Credential(id) => {
                let record = self.directory.credential(id).ok_or(Denied::Revoked)?;
                if record.tenant != principal.tenant || record.device != principal.device {
                    return Err(Denied::Revoked);
                }
                self.credential(record)?
            }
            proven => {
                self.still_proven(proven)?;
                self.admit(Claim {
                    tenant: principal.tenant.clone(),
                    device: principal.device.clone(),
                    role: principal.role_name.clone(),
                    name: Arc::clone(&principal.name),
                    proven: proven.clone(),
                    expires: principal.expires,
                })?
            }
        };
        // A certificate ends when it ends, whatever the record says.
        let ends = [renewed.expires, principal.expires];
        renewed.expires = ends.into_iter().flatten().min();
        Ok(renewed)
    }

    /// Whether what proved a caller without a record would still be looked at.
    fn still_proven(&self, proven: &Proven) -> Result<(), Denied> {
        let known = |issuer: &str| {
            self.settings
                .issuers
                .iter()
                .any(|other| *other.issuer == *issuer)
        };
        match proven {
            Proven::Open if self.settings.mode != Mode::Open => Err(Denied::Missing),
            Proven::Issuer(issuer) if !known(issuer) => Err(Denied::UnknownIssuer),
            // Registered since: it may come in anew, by the record.
            Proven::Certificate(fingerprint)
                if self.directory.by_fingerprint(fingerprint).is_some() =>
            {
                Err(Denied::Revoked)
            }
            _ => Ok(()),
        }
    }

    fn signed_token(&self, token: &[u8]) -> Result<Principal, Denied> {
        if self.settings.issuers.is_empty() {
            return Err(Denied::Unsupported("signed tokens"));
        }
        let bearer = jwt::verify(token, &self.settings.issuers, self.now)?;
        let Bearer {
            issuer,
            subject,
            tenant,
            device,
            role,
            expires,
        } = bearer;
        let name = format!("token:{}", subject.as_deref().unwrap_or(&issuer));
        self.admit(Claim {
            tenant,
            device,
            role,
            name: name.into(),
            proven: Proven::Issuer(issuer),
            expires: Some(expires),
        })
    }

    fn secret(&self, record: &CredentialRecord, secret: &[u8]) -> Result<Principal, Denied> {
        let Secret::Password(hash) = &record.secret else {
            return Err(Denied::Unsupported("passwords for this credential"));
        };
        record.standing(self.now)?;
        if !self.verified.verify(&record.id, hash, secret) {
            return Err(Denied::Wrong);
        }
        self.credential(record)
    }

    /// Whoever has proven to have a credential.
    fn credential(&self, record: &CredentialRecord) -> Result<Principal, Denied> {
        record.standing(self.now)?;
        self.admit(Claim {
            tenant: record.tenant.clone(),
            device: record.device.clone(),
            role: record.role.clone(),
            name: record.id.as_str().into(),
            proven: Proven::Credential(record.id.clone()),
            expires: record.expires,
        })
    }

    fn admit(&self, claim: Claim) -> Result<Principal, Denied> {
        if !self.directory.has_tenant(&claim.tenant) {
            return Err(Denied::UnknownTenant);
        }
        let named = self.directory.role(&claim.tenant, &claim.role);
        let named = named.ok_or(Denied::UnknownRole)?;
        Ok(Principal {
            admin: named.admin.within(&claim.tenant),
            role: Arc::clone(&named.role),
            role_name: claim.role,
            tenant: claim.tenant,
            device: claim.device,
            name: claim.name,
            proven: claim.proven,
            expires: claim.expires,
            revision: self.directory.revision(),
        })
    }
}

fn check_bound(vouched: &Vouched, tenant: &Tenant) -> Result<(), Denied> {
    match &vouched.tenant {
        Some(bound) if bound != tenant => Err(Denied::Overreach("tenant")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
