use crate::gateway::dialect::aws::Aws;
use crate::gateway::dialect::harness::connect;
use crate::gateway::dialect::{
    CatchUp, Connect, ConnectRefusal, Dialect, Dialects, Link, Proof, Secret, Sniff,
};

/// The SDKs append their names to the user name, also to an empty one beside a certificate.
#[test]
fn a_certificate_or_a_password_proves_the_client() {
    let sdk = Connect {
        client_id: "pump",
        username: Some("?SDK=CPPv2&Platform=x&Metadata=(a=b)"),
        link: Link::Certificate,
        ..connect()
    };
    let claims = Aws.claims(&sdk).unwrap();
    assert_eq!(claims.proof, Proof::Certificate);
    assert_eq!(claims.device.unwrap().as_str(), "pump");
    let user = Connect {
        client_id: "any/client id",
        username: Some("user?SDK=x"),
        password: Some(Secret(b"hush")),
        ..connect()
    };
    let claims = Aws.claims(&user).unwrap();
    let (user_name, password) = ("user".into(), b"hush"[..].into());
    assert_eq!(
        claims.proof,
        Proof::Password {
            user: user_name,
            password
        }
    );
    assert_eq!(
        claims.device, None,
        "a client id need not be the name of a device"
    );
    assert_eq!(&*claims.client_id, "any/client id");
    assert!(!format!("{user:?} {claims:?}").contains("hush"));
    assert_eq!(Aws.claims(&connect()).unwrap().proof, Proof::Nothing);
    let half = Connect {
        username: Some("user"),
        ..connect()
    };
    assert_eq!(Aws.claims(&half), Err(ConnectRefusal::BadCredentials));
}

/// AWS is what is left; a secret is never asked for; wrong credentials are return code 5 there.
#[test]
fn the_dialect_is_the_fallback() {
    assert_eq!(Aws.sniff(&connect()), Sniff::Maybe);
    let refused = Aws.verify(&connect(), b"", antumbra_shadow::Time(0));
    assert_eq!(refused, Err(ConnectRefusal::BadCredentials));
    let codes = Aws.connack(ConnectRefusal::BadCredentials);
    assert_eq!((codes.return_code, codes.reason_code), (5, 0x86));
    let codes = Aws.connack(ConnectRefusal::Unavailable);
    assert_eq!((codes.return_code, codes.reason_code), (3, 0x88));
    assert_eq!(Aws.rules(&connect()).catch_up, CatchUp::Always);
    assert!(Dialects::new(Vec::new()).choose(&connect()).is_none());
}

/// Protects the memory of a million idle sessions: a box of nothing takes none.
#[test]
fn a_session_of_the_dialect_has_no_size() {
    assert_eq!(size_of::<crate::gateway::dialect::aws::AwsSession>(), 0);
}
