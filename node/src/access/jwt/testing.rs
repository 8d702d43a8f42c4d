//! An issuer for tests.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use super::*;

/// An issuer with one Ed25519 key.
pub(in crate::access) struct TestIssuer {
    id: &'static str,
    key: Ed25519KeyPair,
}

impl TestIssuer {
    pub(in crate::access) fn new(id: &'static str) -> TestIssuer {
        let key = Ed25519KeyPair::generate().unwrap();
        TestIssuer { id, key }
    }

    /// Its key as an entry of a key set.
    pub(in crate::access) fn key(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key().as_ref());
        let id = self.id;
        format!(
            r#"{{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":"{id}","x":"{x}"}}"#
        )
    }

    pub(in crate::access) fn settings(&self) -> JwtSettings {
        let keys = format!(r#"{{"keys":[{}]}}"#, self.key());
        JwtSettings {
            issuer: "https://issuer.example".into(),
            audiences: vec!["fleet".into()],
            algorithms: vec![Algorithm::EdDsa],
            leeway: Duration::from_secs(30),
            keys: Keys::new(KeySet::parse(&keys).unwrap()),
            claims: ClaimNames {
                tenant: Some("tenant".into()),
                role: Some("role".into()),
                ..ClaimNames::default()
            },
            tenant: None,
            role: RoleName::device(),
            roles: RoleName::nameable(),
        }
    }

    /// A token with exactly this header and these claims.
    pub(in crate::access) fn sign_as(&self, header: &str, claims: &str) -> String {
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = self.key.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    /// A token with these claims.
    pub(in crate::access) fn sign(&self, claims: &str) -> String {
        let header = format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{}"}}"#, self.id);
        self.sign_as(&header, claims)
    }
}
