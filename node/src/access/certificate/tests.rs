use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;

use super::*;

/// The validity that rcgen gives: 1975 to 4096. In between:
const NOW: Time = Time(1_795_920_300_000);

struct Signer(Issuer<'static, KeyPair>, CertificateDer<'static>);

fn authority(name: &str) -> Signer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Signer(Issuer::new(params, key), certificate.der().clone())
}

fn leaf(signer: &Signer, subject: &[(DnType, &str)], names: &[SanType]) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    for (kind, text) in subject {
        params.distinguished_name.push(kind.clone(), *text);
    }
    params.subject_alt_names = names.to_vec();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &signer.0).unwrap();
    certificate.der().clone()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn rules(texts: &[&str]) -> Vec<Rule> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Bytes that are no certificate, or more than one, are refused and never panic.
#[test]
fn refuses_what_is_no_certificate() {
    let signer = authority("a");
    let good = leaf(&signer, &[(DnType::CommonName, "pump-1")], &[]);
    let rules = rules(&["common_name = device"]);
    for end in 0..good.len() {
        assert!(Subject::read(&good[..end], &rules, NOW).is_err());
    }
    let longer = [&good[..], &[0]].concat();
    let malformed = Err(Denied::Malformed("the certificate cannot be read"));
    assert_eq!(Subject::read(&longer, &rules, NOW), malformed);
    let huge = vec![0x30; CERTIFICATE_BYTES_MAX + 1];
    assert_eq!(Subject::read(&huge, &rules, NOW), Err(Denied::TooLarge));
}

/// A name that is no id is refused, not bent into one: NUL, blanks, twins from other alphabets,
/// length.
#[test]
fn refuses_names_that_are_no_ids() {
    let signer = authority("a");
    let long = "x".repeat(129);
    for name in [
        "pump\0-1",
        "pump 1",
        "pum\u{440}-1",
        "ｐump",
        "a/b",
        "",
        " pump",
        &long,
    ] {
        let certificate = leaf(&signer, &[(DnType::CommonName, name)], &[]);
        let read = Subject::read(&certificate, &rules(&["common_name = device"]), NOW);
        let bad = Err(Denied::Malformed("the device in the certificate"));
        assert_eq!(read, bad, "{name:?}");
    }
}

/// A certificate with two names is nobody's, wherever the two stand.
#[test]
fn refuses_two_names() {
    let signer = authority("a");
    let two = Err(Denied::Malformed("the certificate has two names"));
    let names = [uri("spiffe://acme/device/a"), uri("spiffe://acme/device/b")];
    let certificate = leaf(&signer, &[], &names);
    let by_uri = rules(&["uri = spiffe://{tenant}/device/{device}"]);
    assert_eq!(Subject::read(&certificate, &by_uri, NOW), two);

    let names = [uri("spiffe://acme/device/a")];
    let certificate = leaf(&signer, &[(DnType::CommonName, "b")], &names);
    let both = rules(&[
        "common_name = device",
        "uri = spiffe://{tenant}/device/{device}",
    ]);
    assert_eq!(Subject::read(&certificate, &both, NOW), two);
}

/// The rules find what they say, and the default rule takes the common name.
#[test]
fn reads_by_rules() {
    let signer = authority("a");
    let subject = [
        (DnType::CommonName, "pump:1"),
        (DnType::OrganizationName, "acme"),
        (DnType::OrganizationalUnitName, "reader"),
    ];
    let names = [dns("pump:1.devices.example"), uri("https://elsewhere")];
    let certificate = leaf(&signer, &subject, &names);
    let all = rules(&[
        "common_name = device",
        "organisation=tenant",
        "organisational_unit = role",
        "dns = {device}.devices.example",
    ]);
    let read = Subject::read(&certificate, &all, NOW).unwrap();
    assert_eq!(read.device.unwrap().as_str(), "pump:1");
    assert_eq!(read.tenant.unwrap().as_str(), "acme");
    assert_eq!(read.role.unwrap().as_str(), "reader");
    assert_eq!(read.fingerprint, Fingerprint::of(&certificate));

    let settings = CertificateSettings::default();
    let read = Subject::read(&certificate, &settings.rules, NOW).unwrap();
    assert_eq!((read.tenant, read.role), (None, None));
}

/// A certificate is good from its first to before its last moment.
#[test]
fn refuses_certificates_out_of_their_time() {
    let certificate = leaf(&authority("a"), &[(DnType::CommonName, "a")], &[]);
    let rules = rules(&["common_name = device"]);
    let read = |now| Subject::read(&certificate, &rules, now);
    assert_eq!(read(Time(0)), Err(Denied::NotYetValid));
    let end = read(NOW).unwrap().expires;
    assert_eq!(read(end), Err(Denied::Expired));
    assert!(read(Time(end.0 - 1)).is_ok());
}

/// A pattern matches the whole text, and a place only what names have.
#[test]
fn patterns_match_whole_texts() {
    let pattern: Pattern = "spiffe://{tenant}/device/{device}".parse().unwrap();
    let good = pattern.read("spiffe://acme/device/pump:1").unwrap();
    assert_eq!(good, [(Field::Tenant, "acme"), (Field::Device, "pump:1")]);
    for bad in [
        "spiffe://acme/device/",
        "spiffe:///device/a",
        "spiffe://acme/device/a/b",
        "spiffe://acme/device/a?x",
        "spiffe://acme/device/a%2fb",
        "spiffe://acme/x/device/a",
        "Spiffe://acme/device/a",
        "xspiffe://acme/device/a",
    ] {
        assert_eq!(pattern.read(bad), None, "{bad}");
    }
}

/// Rules that could be read in two ways, or mean nothing, are refused when they are set.
#[test]
fn refuses_bad_rules() {
    for (text, error) in [
        ("device", RuleError::Form),
        ("surname = device", RuleError::Source),
        ("common_name = nobody", RuleError::Field),
        ("uri = spiffe://all", RuleError::Empty),
        ("uri = {device}{tenant}", RuleError::Ambiguous),
        ("uri = {device}-{tenant}", RuleError::Ambiguous),
        ("uri = {device}-x", RuleError::Ambiguous),
        ("uri = {device}/{device}", RuleError::Field),
        ("uri = {device", RuleError::Form),
        ("uri = a}/{device}", RuleError::Form),
    ] {
        assert_eq!(text.parse::<Rule>(), Err(error), "{text}");
    }
    let long = format!("uri = {}{{device}}", "a".repeat(256));
    assert_eq!(long.parse::<Rule>(), Err(RuleError::TooLong));
}

/// The two spellings of a fingerprint that tools print are read, and no others.
#[test]
fn reads_fingerprints() {
    let fingerprint = Fingerprint::of(b"");
    let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(fingerprint.to_string(), text);
    let pairs: Vec<_> = (0..32).map(|index| &text[2 * index..][..2]).collect();
    let colons = pairs.join(":").to_uppercase();
    assert_eq!(text.parse(), Ok(fingerprint));
    assert_eq!(colons.parse(), Ok(fingerprint));
    for bad in [
        "",
        ":",
        &text[1..],
        &colons[1..],
        &colons.replacen(':', "", 1),
    ] {
        assert_eq!(bad.parse::<Fingerprint>(), Err(FingerprintError), "{bad}");
    }
}

/// An authority that is bound to a tenant is found by its signature, not by its name; one without a
/// rule is trusted by nobody once there are rules.
#[test]
fn finds_the_authority_by_its_signature() {
    let (acme, twin, other) = (authority("root"), authority("root"), authority("other"));
    let roots = [acme.1.clone(), twin.1.clone(), other.1.clone()];
    let bind = |signer: &Signer, tenant: &str| AuthorityRule {
        fingerprint: Fingerprint::of(&signer.1),
        tenant: Some(Tenant::parse(tenant).unwrap()),
    };
    let table = [bind(&acme, "acme"), bind(&twin, "twin")];
    let authorities = Authorities::new(&roots, &table).unwrap();
    let subject = [(DnType::CommonName, "pump-1")];
    let find = |signer: &Signer| authorities.find(&[leaf(signer, &subject, &[])], NOW);
    assert_eq!(find(&acme).unwrap().tenant.unwrap().as_str(), "acme");
    assert_eq!(find(&twin).unwrap().tenant.unwrap().as_str(), "twin");
    assert_eq!(find(&other), Err(Denied::UnknownIssuer));
    assert_eq!(authorities.find(&[], NOW), Err(Denied::Missing));

    let free = Authorities::new(&roots, &[]).unwrap();
    let vouched = free.find(&[leaf(&other, &subject, &[])], NOW).unwrap();
    assert_eq!(vouched.tenant, None);
}

/// A certificate of a device cannot vouch for another, although it is signed well.
#[test]
fn a_device_is_no_authority() {
    let root = authority("root");
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "pump-1");
    let key = KeyPair::generate().unwrap();
    let device = params.signed_by(&key, &root.0).unwrap().der().clone();
    let forger = Signer(Issuer::new(params, key), device.clone());
    let forged = leaf(&forger, &[(DnType::CommonName, "pump-2")], &[]);
    let authorities = Authorities::new(std::slice::from_ref(&root.1), &[]).unwrap();
    assert_eq!(
        authorities.find(&[forged, device], NOW),
        Err(Denied::UnknownIssuer)
    );
}

/// A table that names an authority that is not there, or one twice, is refused when it is set.
#[test]
fn refuses_bad_tables() {
    let root = authority("root");
    let rule = AuthorityRule {
        fingerprint: Fingerprint::of(&root.1),
        tenant: None,
    };
    let two = [rule.clone(), rule.clone()];
    let error = Authorities::new(std::slice::from_ref(&root.1), &two).unwrap_err();
    assert_eq!(error, AuthorityError::Twice(rule.fingerprint));
    let error = Authorities::new(&[], std::slice::from_ref(&rule)).unwrap_err();
    assert_eq!(error, AuthorityError::NoAuthority(rule.fingerprint));
}
