use std::num::NonZeroUsize;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};

use super::*;
use crate::access::certificate::AuthorityRule;
use crate::access::jwt::testing::TestIssuer;
use crate::access::record::Record;
use crate::access::roles::AdminVerb;
use crate::access::token::PasswordHash;
use crate::gateway::dialect::Verb;

const NOW: Time = Time(1_795_920_300_000);

struct World {
    directory: Directory,
    settings: AccessSettings,
    authorities: Authorities,
    verified: Verified,
}

impl World {
    fn new(records: &[String]) -> World {
        let mut all = vec![r#"{"format":"tenant/1","name":"acme","created":1}"#.to_owned()];
        all.extend_from_slice(records);
        let records = all.iter().map(|text| Record::parse(text).unwrap());
        let (directory, problems) = Directory::new(3, records.collect());
        assert_eq!(problems, []);
        World {
            directory,
            settings: AccessSettings::default(),
            authorities: Authorities::new(&[], &[]).unwrap(),
            verified: Verified::new(NonZeroUsize::new(16).unwrap(), [1; 32]),
        }
    }

    fn at(&self, now: Time) -> Authenticator<'_> {
        Authenticator {
            directory: &self.directory,
            settings: &self.settings,
            verified: &self.verified,
            now,
        }
    }

    fn now(&self) -> Authenticator<'_> {
        self.at(NOW)
    }

    fn certificate(&self, chain: &[CertificateDer<'_>]) -> Result<Principal, Denied> {
        self.now().certificate(chain, &self.authorities)
    }
}

/// The text of a hash of the secret.
fn hash(secret: &[u8]) -> String {
    PasswordHash::make(secret, [9; 16]).unwrap().to_string()
}

fn credential(id: &str, secret: &str, more: &str) -> String {
    format!(
        r#"{{"format":"credential/1","id":"{id}","tenant":"acme","secret":{secret},"role":"device","created":1{more}}}"#
    )
}

fn password(id: &str, secret: &[u8], more: &str) -> String {
    let hash = hash(secret);
    credential(id, &format!(r#"{{"password":{{"hash":"{hash}"}}}}"#), more)
}

/// Nothing shown is nobody, unless the operator opened the door.
#[test]
fn nothing_shown_is_nobody() {
    let mut world = World::new(&[]);
    assert_eq!(
        world.now().anonymous(Some("a")).unwrap_err(),
        Denied::Missing
    );
    assert_eq!(world.certificate(&[]).unwrap_err(), Denied::Missing);
    assert_eq!(world.now().bearer(b"").unwrap_err(), Denied::Missing);
    assert_eq!(world.now().password("a", b"").unwrap_err(), Denied::Missing);

    world.settings.mode = Mode::Open;
    let open = world.now().anonymous(Some("pump:1")).unwrap();
    assert_eq!(open.device.as_ref().unwrap().as_str(), "pump:1");
    assert_eq!(open.tenant, Tenant::default_tenant());
    assert_eq!(open.role_name, RoleName::backend());
    for client_id in [
        None,
        Some(""),
        Some("a/b"),
        Some("a\0"),
        Some("#"),
        Some("p\u{443}mp"),
    ] {
        assert_eq!(world.now().anonymous(client_id).unwrap().device, None);
    }
    // What is shown is judged nevertheless.
    assert_eq!(
        world.now().password("a", b"b").unwrap_err(),
        Denied::Unknown
    );
    world.settings.mode = Mode::Closed;
    assert_eq!(world.now().renew(&open).unwrap_err(), Denied::Missing);
}

/// A password fits its own user alone; ended and revoked ones are refused before it is looked at,
/// and after it was remembered.
#[test]
fn refuses_wrong_passwords() {
    let world = World::new(&[
        password("a", b"secret-a", r#","expires":1795920400000"#),
        password("b", b"secret-b", r#","revoked":1"#),
        credential(
            "c",
            r#"{"access_key":{"id":"K","secret":"0123456789abcdef"}}"#,
            "",
        ),
    ]);
    let check =
        |user: &str, shown: &[u8]| world.now().password(user, shown).map(|found| found.name);
    assert_eq!(check("a", b"secret-a").as_deref(), Ok("a"));
    assert_eq!(check("a", b"secret-b"), Err(Denied::Wrong));
    assert_eq!(check("a", b"secret-a\0"), Err(Denied::Wrong));
    assert_eq!(check("b", b"secret-b"), Err(Denied::Revoked));
    for user in ["", "A", "a\0", "а", "a ", "nobody", "a/b", "#"] {
        assert_eq!(check(user, b"secret-a"), Err(Denied::Unknown), "{user:?}");
    }
    assert!(matches!(
        check("c", b"0123456789abcdef"),
        Err(Denied::Unsupported(_))
    ));
    assert_eq!(check("a", &[b'x'; 1_025]), Err(Denied::TooLarge));
    let late = world.at(Time(1_795_920_400_000)).password("a", b"secret-a");
    assert_eq!(late.unwrap_err(), Denied::Expired);
}

/// A token of ours names its record, and comes with the name of the record or of its device.
#[test]
fn tokens_are_for_their_record() {
    let id = CredentialId::parse("gate_1").unwrap();
    let token = Token::draw(id).unwrap();
    let world = World::new(&[
        password("gate_1", token.secret(), r#","device":"pump:1""#),
        password("other", b"secret", ""),
    ]);
    let shown = token.reveal();
    let found = world.now().bearer(shown.as_bytes()).unwrap();
    assert_eq!(found.device.as_ref().unwrap().as_str(), "pump:1");
    assert_eq!(found.expires, None);
    for user in ["gate_1", "pump:1"] {
        assert!(world.now().password(user, shown.as_bytes()).is_ok());
    }
    for user in ["", "other", "pump:2", "gate_"] {
        let wrong = world.now().password(user, shown.as_bytes());
        assert_eq!(wrong.unwrap_err(), Denied::Wrong);
    }
    let stolen = shown.replacen("gate_1", "other", 1);
    assert_eq!(
        world.now().bearer(stolen.as_bytes()).unwrap_err(),
        Denied::Wrong
    );
    let nobody = shown.replacen("gate_1", "nobody", 1);
    assert_eq!(
        world.now().bearer(nobody.as_bytes()).unwrap_err(),
        Denied::Unknown
    );
    let foreign = world.now().bearer(b"ghp_x").unwrap_err();
    assert!(matches!(foreign, Denied::Unsupported(_)));
}

/// A signed token is good for a tenant that exists, as a password too, and never for more than its
/// issuer.
#[test]
fn signed_tokens_are_judged() {
    let issuer = TestIssuer::new("k");
    let mut world = World::new(&[]);
    let token = |tenant: &str| {
        issuer.sign(&format!(
            r#"{{"iss":"https://issuer.example","aud":"fleet","sub":"pump:1","tenant":"{tenant}","exp":1795920400}}"#
        ))
    };
    let unsupported = world.now().bearer(token("acme").as_bytes()).unwrap_err();
    assert!(matches!(unsupported, Denied::Unsupported(_)));
    world.settings.issuers.push(issuer.settings());
    let found = world
        .now()
        .password("whoever", token("acme").as_bytes())
        .unwrap();
    assert_eq!(&*found.name, "token:pump:1");
    assert_eq!(found.expires, Some(Time(1_795_920_400_000)));
    let gone = world.now().bearer(token("gone").as_bytes());
    assert_eq!(gone.unwrap_err(), Denied::UnknownTenant);

    assert!(world.now().renew(&found).is_ok());
    let late = world.at(Time(1_795_920_400_000));
    assert_eq!(late.renew(&found).unwrap_err(), Denied::Expired);
    world.settings.issuers.clear();
    assert_eq!(
        world.now().renew(&found).unwrap_err(),
        Denied::UnknownIssuer
    );
}

/// Who is revoked, moved to another tenant or forgotten is out at the next look; a changed role
/// counts from then on (invariant 14).
#[test]
fn open_sessions_are_judged_again() {
    let before = World::new(&[password("a", b"secret", r#","device":"pump:1""#)]);
    let principal = before.now().password("a", b"secret").unwrap();
    let look = |records: &[String]| World::new(records).now().renew(&principal);
    assert_eq!(look(&[]).unwrap_err(), Denied::Revoked);
    let text = password("a", b"secret", r#","device":"pump:1""#);
    let moved = text.replacen("\"acme\"", "\"default\"", 1);
    assert_eq!(look(&[moved]).unwrap_err(), Denied::Revoked);
    let other = text.replacen("pump:1", "pump:2", 1);
    assert_eq!(look(&[other]).unwrap_err(), Denied::Revoked);
    let revoked = password("a", b"secret", r#","device":"pump:1","revoked":5"#);
    assert_eq!(look(&[revoked]).unwrap_err(), Denied::Revoked);
    let gone = text.replacen("\"device\",", "\"gone\",", 1);
    assert_eq!(look(&[gone]).unwrap_err(), Denied::UnknownRole);
    let reader = text.replacen("\"role\":\"device\"", "\"role\":\"reader\"", 1);
    let renewed = look(&[reader]).unwrap();
    let identity = renewed.identity("pump:1".into());
    let other = DeviceId::parse("pump:2").unwrap();
    assert!(identity.may(Verb::Read, &other) && !identity.may(Verb::Update, &other));
}

/// The role `admin` in a tenant administers that tenant alone (invariant 14).
#[test]
fn admins_of_a_tenant_stay_in_it() {
    let text = password("a", b"secret", "").replacen("\"device\"", "\"admin\"", 1);
    let operator = text
        .replacen("\"acme\"", "\"default\"", 1)
        .replacen("\"a\"", "\"b\"", 1);
    let world = World::new(&[text, operator]);
    let admin = world.now().password("a", b"secret").unwrap();
    assert!(admin.may_administer(AdminVerb::ManageCredentials));
    assert!(!admin.may_administer(AdminVerb::ManageTenants));
    assert!(!admin.may_administer(AdminVerb::OperateCluster));
    let operator = world.now().password("b", b"secret").unwrap();
    assert!(operator.may_administer(AdminVerb::ManageTenants));
}

/// A dialect gets the shared secret of a credential that stands, and of no other.
#[test]
fn shared_secrets_are_for_credentials_that_stand() {
    let key = r#"{"access_key":{"id":"K","secret":"0123456789abcdef"}}"#;
    let world = World::new(&[
        credential("a", key, ""),
        credential("b", &key.replacen("K", "L", 1), r#","revoked":1"#),
        password("c", b"secret", ""),
    ]);
    let now = world.now();
    let (secret, found) = now.shared_secret("a").unwrap();
    assert_eq!((secret.reveal(), &*found.name), ("0123456789abcdef", "a"));
    assert_eq!(now.shared_secret("b").unwrap_err(), Denied::Revoked);
    assert_eq!(now.shared_secret("K").unwrap_err(), Denied::Unknown);
    assert!(matches!(
        now.shared_secret("c").unwrap_err(),
        Denied::Unsupported(_)
    ));
}

struct Root(Issuer<'static, KeyPair>, CertificateDer<'static>);

fn root() -> Root {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    Root(Issuer::new(params, key), certificate)
}

fn leaf(root: &Root, subject: &[(DnType, &str)]) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    for (kind, text) in subject {
        params.distinguished_name.push(kind.clone(), *text);
    }
    let key = KeyPair::generate().unwrap();
    params.signed_by(&key, &root.0).unwrap().der().clone()
}

/// A certificate is for whom its rules say, unless it is registered; a bound authority names no
/// other tenant; roles beyond those listed are not for it to name.
#[test]
fn certificates_are_judged() {
    let root = root();
    let pump = leaf(&root, &[(DnType::CommonName, "pump:1")]);
    let print = Fingerprint::of(&pump);
    let chain = [pump];
    let mut world = World::new(&[]);
    let none = world.certificate(&chain).unwrap_err();
    assert_eq!(none, Denied::UnknownIssuer);
    let roots = [root.1.clone()];
    world.authorities = Authorities::new(&roots, &[]).unwrap();
    let found = world.certificate(&chain).unwrap();
    assert_eq!(found.device.as_ref().unwrap().as_str(), "pump:1");
    assert_eq!(
        (&found.tenant, &found.role_name),
        (&Tenant::default_tenant(), &RoleName::device())
    );
    world.settings.certificate.registration = Registration::Required;
    assert_eq!(world.certificate(&chain).unwrap_err(), Denied::Unknown);

    let secret = format!(r#"{{"certificate":{{"fingerprint":"{print}"}}}}"#);
    let registered = credential("c", &secret, r#","device":"valve""#);
    let mut world = World::new(&[registered]);
    world.authorities = Authorities::new(&roots, &[]).unwrap();
    assert_eq!(world.now().renew(&found).unwrap_err(), Denied::Revoked);
    let found = world.certificate(&chain).unwrap();
    assert_eq!(found.device.as_ref().unwrap().as_str(), "valve");
    assert!(found.expires.is_some());
    assert_eq!(world.now().renew(&found).unwrap().expires, found.expires);

    let bound = AuthorityRule {
        fingerprint: Fingerprint::of(&root.1),
        tenant: Some(Tenant::default_tenant()),
    };
    world.authorities = Authorities::new(&roots, &[bound]).unwrap();
    let beyond = world.certificate(&chain).unwrap_err();
    assert_eq!(beyond, Denied::Overreach("tenant"));
    let rules = [
        "organisation = tenant",
        "common_name = device",
        "organisational_unit = role",
    ];
    world.settings.certificate.rules = rules.map(|rule| rule.parse().unwrap()).to_vec();
    let check = |subject: &[(DnType, &str)]| world.certificate(&[leaf(&root, subject)]);
    let acme = check(&[
        (DnType::CommonName, "a"),
        (DnType::OrganizationName, "acme"),
    ]);
    assert_eq!(acme.unwrap_err(), Denied::Overreach("tenant"));
    let admin = check(&[(DnType::OrganizationalUnitName, "admin")]);
    assert_eq!(admin.unwrap_err(), Denied::Overreach("role"));
    let nobody = check(&[]).unwrap_err();
    assert_eq!(nobody, Denied::Malformed("the certificate names nobody"));
    let backend = check(&[(DnType::OrganizationalUnitName, "backend")]).unwrap();
    assert_eq!(
        (backend.device, backend.role_name),
        (None, RoleName::backend())
    );
}
