use super::*;

const HASH: &str =
    "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn tenant(name: &str, created: u64) -> Record {
    let text =
        format!(r#"{{"format":"tenant/1","name":"{name}","created":{created},"limits":{{}}}}"#);
    Record::parse(&text).unwrap()
}

fn credential(id: &str, tenant: &str, secret: &str, created: u64) -> Record {
    let text = format!(
        r#"{{"format":"credential/1","id":"{id}","tenant":"{tenant}","secret":{secret},"role":"device","created":{created}}}"#
    );
    Record::parse(&text).unwrap()
}

fn access_key(id: &str) -> String {
    format!(r#"{{"access_key":{{"id":"{id}","secret":"0123456789abcdef"}}}}"#)
}

fn id(text: &str) -> CredentialId {
    CredentialId::parse(text).unwrap()
}

/// Nobody takes over the name, access key or certificate of an older record, in whatever order the
/// records come; and the mistake of one locks out no other.
#[test]
fn the_older_record_keeps_its_names() {
    let print = "ab".repeat(32);
    let certificate = format!(r#"{{"certificate":{{"fingerprint":"{print}"}}}}"#);
    let password = format!(r#"{{"password":{{"hash":"{HASH}"}}}}"#);
    let mut records = vec![
        tenant("acme", 1),
        tenant("evil", 2),
        credential("a", "acme", &access_key("AKID"), 1),
        credential("b", "evil", &access_key("AKID"), 2),
        credential("c", "acme", &certificate, 1),
        credential("d", "evil", &certificate, 2),
        credential("e", "acme", &password, 1),
        credential("e", "evil", &access_key("OTHER"), 2),
    ];
    for _ in 0..records.len() {
        records.rotate_left(1);
        let (directory, problems) = Directory::new(7, records.clone());
        assert_eq!(problems.len(), 3);
        let acme = Tenant::parse("acme").unwrap();
        let by_key = directory.by_access_key(&id("AKID")).unwrap();
        assert_eq!((&by_key.id, &by_key.tenant), (&id("a"), &acme));
        let fingerprint = print.parse().unwrap();
        assert_eq!(directory.by_fingerprint(&fingerprint).unwrap().id, id("c"));
        assert_eq!(directory.credential(&id("e")).unwrap().tenant, acme);
        assert!(directory.by_access_key(&id("OTHER")).is_none());
        let all: Vec<_> = directory
            .credentials_of(&acme)
            .map(|record| &record.id)
            .collect();
        assert_eq!(all, [&id("a"), &id("c"), &id("e")]);
        assert_eq!(directory.revision(), 7);
    }
}

/// Credentials and roles of tenants that do not exist are left out and told.
#[test]
fn leaves_out_what_has_no_tenant() {
    let role = r#"{"format":"role/1","tenant":"gone","name":"line","role":{},"created":7}"#;
    let records = vec![
        credential("a", "gone", &access_key("A"), 1),
        credential("b", "default", &access_key("B"), 1),
        Record::parse(role).unwrap(),
    ];
    let (directory, problems) = Directory::new(1, records);
    assert_eq!(problems.len(), 2);
    assert!(
        problems
            .iter()
            .all(|problem| matches!(problem, Problem::NoTenant { .. }))
    );
    assert!(directory.credential(&id("a")).is_none());
    assert!(directory.credential(&id("b")).is_some());
}

/// A tenant knows built-in roles, then its own, then those of all; never those of another tenant.
#[test]
fn roles_belong_to_tenants() {
    let role = |tenant: &str, presence: bool, created: u64| {
        let text = format!(
            r#"{{"format":"role/1",{tenant}"name":"line","role":{{"presence":{presence}}},"created":{created}}}"#
        );
        Record::parse(&text).unwrap()
    };
    let own = role(r#""tenant":"acme","#, true, 1);
    let records = vec![tenant("acme", 1), tenant("other", 1), own.clone()];
    let (directory, _) = Directory::new(1, records.clone());
    let (acme, other) = ("acme", "other");
    let find = |directory: &Directory, tenant: &str, name: &str| {
        let name = RoleName::parse(name).unwrap();
        directory.role(&Tenant::parse(tenant).unwrap(), &name)
    };
    assert!(find(&directory, acme, "line").unwrap().role.presence);
    assert!(find(&directory, other, "line").is_none());
    assert!(find(&directory, other, "device").is_some());

    let more = [records, vec![role("", false, 0)]].concat();
    let (directory, problems) = Directory::new(2, more);
    assert_eq!(problems, []);
    assert!(find(&directory, acme, "line").unwrap().role.presence);
    assert!(!find(&directory, other, "line").unwrap().role.presence);
}

/// A credential ends at its end, and at once when it is taken back.
#[test]
fn revoked_and_ended_credentials_do_not_stand() {
    let Record::Credential(mut record) = credential("a", "default", &access_key("A"), 5) else {
        panic!("a credential");
    };
    record.expires = Some(Time(10));
    assert_eq!(record.standing(Time(9)), Ok(()));
    assert_eq!(record.standing(Time(10)), Err(Denied::Expired));
    record.revoked = Some(Time(u64::MAX));
    assert_eq!(record.standing(Time(0)), Err(Denied::Revoked));
}
