use super::*;

fn name(text: &str) -> RoleName {
    RoleName::parse(text).unwrap()
}

fn parse(text: &str) -> Result<NamedRole, RoleError> {
    NamedRole::parse(name("line"), text)
}

/// What is not known, stands there twice or is of another kind is an error, not ignored.
#[test]
fn refuses_what_is_no_role() {
    for text in [
        "",
        "[]",
        "null",
        "{} {}",
        r#"{"shadow":[]}"#,
        r#"{"shadows":[[["read"],"own"]]}"#,
        r#"{"presence":true,"presence":false}"#,
        r#"{"presence":"yes"}"#,
        r#"{"shadows":[{"verbs":["read"]}]}"#,
        r#"{"shadows":[{"verbs":["Read"],"devices":"own"}]}"#,
        r#"{"shadows":[{"verbs":["read"],"devices":"all"}]}"#,
        r#"{"shadows":[{"verbs":["read"],"devices":{"prefix":"a","own":null}}]}"#,
        r#"{"shadows":[{"verbs":["read"],"devices":"own","tenant":"acme"}]}"#,
        r#"{"topics":[{"publish":true}]}"#,
        r#"{"admin":["everything"]}"#,
    ] {
        assert!(matches!(parse(text), Err(RoleError::Syntax(_))), "{text}");
    }
    let long = " ".repeat(ROLE_BYTES_MAX + 1);
    assert_eq!(parse(&long), Err(RoleError::TooLong));
}

/// A rule that means nothing, or more than it looks like, is refused.
#[test]
fn refuses_rules_without_meaning() {
    for verbs in ["", r#""read","read""#] {
        let text = format!(r#"{{"shadows":[{{"verbs":[{verbs}],"devices":"own"}}]}}"#);
        assert_eq!(parse(&text), Err(RoleError::Verbs));
    }
    assert_eq!(
        parse(r#"{"admin":["read_cluster","read_cluster"]}"#),
        Err(RoleError::Verbs)
    );
    for prefix in ["a*", "a/b", "pum\u{440}", "a\\u0000"] {
        let text =
            format!(r#"{{"shadows":[{{"verbs":["read"],"devices":{{"prefix":"{prefix}"}}}}]}}"#);
        assert!(
            matches!(parse(&text), Err(RoleError::Prefix(_))),
            "{prefix}"
        );
    }
    for filter in ["", "a/#/b", "a+", "$aws/#", "$SYS", "a\\u0000"] {
        let text = format!(r#"{{"topics":[{{"filter":"{filter}","publish":true}}]}}"#);
        assert!(
            matches!(parse(&text), Err(RoleError::Filter(_))),
            "{filter}"
        );
    }
    assert!(parse(r#"{"topics":[{"filter":"a"}]}"#).is_err());
    let rule = r#"{"verbs":["read"],"devices":"own"}"#;
    let many = format!(r#"{{"shadows":[{}]}}"#, vec![rule; RULES_MAX + 1].join(","));
    assert_eq!(parse(&many), Err(RoleError::TooManyRules));
}

/// The names of built-in roles cannot be given another meaning; their twins are other names.
#[test]
fn built_in_roles_cannot_be_replaced() {
    for text in ["device", "backend", "reader", "admin"] {
        let replaced = NamedRole::parse(name(text), "{}");
        assert_eq!(replaced, Err(RoleError::BuiltIn(name(text))));
    }
    assert!(NamedRole::built_in(&name("Admin")).is_none());
    for bad in ["", "a b", "аdmin", "admin\0", &"x".repeat(65)] {
        assert!(RoleName::parse(bad).is_err(), "{bad:?}");
    }
}

/// The golden document of a role: stored ones look like this.
#[test]
fn a_role_is_read_as_it_is_written() {
    let text = concat!(
        r#"{"shadows":[{"verbs":["read","update"],"devices":{"prefix":"line-7:"}},"#,
        r#"{"verbs":["read","update","delete"],"devices":"own"}],"#,
        r#""topics":[{"filter":"line/7/+","publish":false,"subscribe":true}],"#,
        r#""presence":true,"admin":["manage_credentials","read_cluster"]}"#
    );
    let role = parse(text).unwrap();
    assert_eq!(role.to_text(), text);
    assert_eq!(role.role.shadows[1].devices, DeviceScope::Own);
    assert!(role.admin.contains(AdminVerb::ManageCredentials));
    assert!(!role.admin.contains(AdminVerb::ManageTenants));
    assert_eq!(parse("{}").unwrap().to_text(), r#"{"presence":false}"#);
}

/// Devices and backends administer nothing; the reader changes nothing.
#[test]
fn built_in_roles_allow_what_they_say() {
    let built_in = |text| NamedRole::built_in(&name(text)).unwrap();
    assert_eq!(*built_in("device").role, Role::device());
    assert_eq!(built_in("device").admin, AdminVerbs::NONE);
    assert_eq!(built_in("backend").admin, AdminVerbs::NONE);
    assert_eq!(built_in("admin").admin.iter().count(), AdminVerb::ALL.len());
    let reader = built_in("reader");
    assert!(
        reader
            .role
            .shadows
            .iter()
            .all(|rule| rule.verbs == [Verb::Read])
    );
    assert!(reader.role.topics.iter().all(|rule| !rule.publish));
    assert_eq!(
        reader.admin.iter().collect::<Vec<_>>(),
        [AdminVerb::ReadCluster]
    );
}

/// Verbs that reach beyond a tenant count only in the operator's (invariant 14).
#[test]
fn tenants_administer_only_themselves() {
    let all: AdminVerbs = AdminVerb::ALL.into_iter().collect();
    let acme = Tenant::parse("acme").unwrap();
    let own: Vec<_> = all.within(&acme).iter().collect();
    assert_eq!(own, [AdminVerb::ManageCredentials]);
    assert_eq!(all.within(&Tenant::default_tenant()), all);
}
