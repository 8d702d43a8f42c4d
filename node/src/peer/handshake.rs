//! What two nodes tell each other with every call and every answer, and when they refuse.
//!
//! An address may lead to another node than was meant: it was given away, or the node was created
//! anew. A frame that got to another cluster would be worse than one that got nowhere.

use antumbra_raft::Lane;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Code, Status};
use uuid::Uuid;

use super::me::Me;
use super::tls::CertificateName;

/// Version of the link that this program speaks.
pub const LINK_VERSION: &str = "1";

const VERSION: &str = "antumbra-link-version";
const CLUSTER: &str = "antumbra-cluster";
const FROM: &str = "antumbra-from";
const TO: &str = "antumbra-to";
const LANE: &str = "antumbra-lane";

/// Who is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Callee<'a> {
    /// A certain node of this cluster.
    Member(&'a str),
    /// Whoever is at an address.
    Anyone,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// Nodes of this cluster that mean this node.
    Members,
    /// Also nodes that belong to no cluster yet, and that do not know who this node is. Members of
    /// another cluster still may not.
    Newcomers,
}

/// Adds what this node says of itself to a call or an answer.
pub(super) fn introduce(me: &Me, metadata: &mut MetadataMap) {
    metadata.insert(VERSION, MetadataValue::from_static(LINK_VERSION));
    insert(metadata, FROM, me.name());
    if let Some(cluster) = me.cluster() {
        insert(metadata, CLUSTER, &cluster.to_string());
    }
}

/// Adds who is meant to a call.
pub(super) fn address(callee: Callee<'_>, lane: Option<Lane>, metadata: &mut MetadataMap) {
    if let Callee::Member(name) = callee {
        insert(metadata, TO, name);
    }
    if let Some(lane) = lane {
        metadata.insert(LANE, MetadataValue::from_static(lane.name()));
    }
}

/// A refusal of ours: the caller can tell it from a failure of the network.
pub(super) fn refusal(me: &Me, code: Code, text: impl Into<String>) -> Status {
    let mut status = Status::new(code, text);
    introduce(me, status.metadata_mut());
    status
}

/// Whether a status is the refusal of a node, and not a failure on the way.
pub(super) fn is_refusal(status: &Status) -> bool {
    status.metadata().contains_key(VERSION)
}

/// The caller of a call that may be served, else why not. `certificate` is the caller's, if the
/// connection has TLS.
pub(super) fn admit(
    me: &Me,
    metadata: &MetadataMap,
    certificate: Option<&CertificateName>,
    audience: Audience,
) -> Result<String, String> {
    check_version(metadata)?;
    check_cluster(me, metadata, audience)?;
    match (text(metadata, TO), audience) {
        (Some(to), _) if to != me.name() => {
            return Err(format!("this is {}, not {to}", me.name()));
        }
        (None, Audience::Members) => return Err(missing(TO)),
        (Some(_), _) | (None, Audience::Newcomers) => {}
    }
    let from = text(metadata, FROM).ok_or_else(|| missing(FROM))?;
    check_certificate(certificate, from)?;
    Ok(from.to_owned())
}

/// The lane that a link is for.
pub(super) fn lane(metadata: &MetadataMap) -> Result<Lane, String> {
    let name = text(metadata, LANE).ok_or_else(|| missing(LANE))?;
    Lane::parse(name).ok_or_else(|| format!("there is no lane `{name}`"))
}

/// Whether the right node answered. `certificate` is the answering node's, if the connection has
/// TLS.
pub(super) fn recognise(
    me: &Me,
    metadata: &MetadataMap,
    certificate: Option<&CertificateName>,
    callee: Callee<'_>,
) -> Result<(), String> {
    check_version(metadata)?;
    let from = text(metadata, FROM).ok_or_else(|| missing(FROM))?;
    check_certificate(certificate, from)?;
    let audience = match callee {
        Callee::Member(name) if name != from => {
            return Err(format!("{from} answers there, not {name}"));
        }
        Callee::Member(_) => Audience::Members,
        Callee::Anyone => Audience::Newcomers,
    };
    check_cluster(me, metadata, audience)
}

fn check_version(metadata: &MetadataMap) -> Result<(), String> {
    match text(metadata, VERSION) {
        Some(LINK_VERSION) => Ok(()),
        Some(other) => Err(format!(
            "this node speaks version {LINK_VERSION} of the link, not {other}"
        )),
        None => Err(missing(VERSION)),
    }
}

fn check_cluster(me: &Me, metadata: &MetadataMap, audience: Audience) -> Result<(), String> {
    let other = text(metadata, CLUSTER);
    let Some(own) = me.cluster() else {
        return match audience {
            Audience::Members => Err(format!("{} belongs to no cluster yet", me.name())),
            Audience::Newcomers => Ok(()),
        };
    };
    match other {
        Some(other) if other.parse::<Uuid>() == Ok(own) => Ok(()),
        Some(other) => Err(format!(
            "{} belongs to cluster {own}, not to {other}",
            me.name()
        )),
        None if audience == Audience::Newcomers => Ok(()),
        None => Err(missing(CLUSTER)),
    }
}

fn check_certificate(certificate: Option<&CertificateName>, name: &str) -> Result<(), String> {
    match certificate {
        Some(certificate) if certificate.name != name => Err(format!(
            "the certificate is of {}, not of {name}",
            certificate.name
        )),
        _ => Ok(()),
    }
}

fn text<'a>(metadata: &'a MetadataMap, key: &str) -> Option<&'a str> {
    metadata.get(key).and_then(|value| value.to_str().ok())
}

fn missing(key: &str) -> String {
    format!("`{key}` is missing")
}

/// Names and ids are ASCII; one that is not is left out, and the other side says so.
fn insert(metadata: &mut MetadataMap, key: &'static str, value: &str) {
    if let Ok(value) = value.parse::<MetadataValue<Ascii>>() {
        metadata.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tls::Holder;

    const CLUSTER_A: Uuid = Uuid::from_u128(0xa);

    fn me(name: &str, cluster: Option<Uuid>) -> Me {
        let me = Me::new(name.to_owned());
        if let Some(cluster) = cluster {
            me.set_cluster(cluster);
        }
        me
    }

    fn call(from: &Me, to: Callee<'_>) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        introduce(from, &mut metadata);
        address(to, Some(Lane::Log), &mut metadata);
        metadata
    }

    fn certificate(name: &str) -> CertificateName {
        CertificateName {
            cluster: "antumbra".to_owned(),
            holder: Holder::Node,
            name: name.to_owned(),
        }
    }

    /// Each way in which a caller can be wrong is told apart from the others.
    #[test]
    fn admits_only_who_means_this_node_of_this_cluster() {
        let (one, two) = (me("node-1", Some(CLUSTER_A)), me("node-2", Some(CLUSTER_A)));
        let good = call(&one, Callee::Member("node-2"));
        let admit = |metadata: &MetadataMap| admit(&two, metadata, None, Audience::Members);
        assert_eq!(admit(&good).as_deref(), Ok("node-1"));
        assert_eq!(lane(&good), Ok(Lane::Log));

        let with = |key: &'static str, value: &str| {
            let mut metadata = good.clone();
            insert(&mut metadata, key, value);
            metadata
        };
        let without = |key: &str| {
            let mut metadata = good.clone();
            metadata.remove(key);
            metadata
        };
        let refused = |metadata: &MetadataMap| admit(metadata).unwrap_err();
        assert_eq!(
            refused(&with(VERSION, "2")),
            "this node speaks version 1 of the link, not 2"
        );
        assert_eq!(refused(&with(TO, "node-3")), "this is node-2, not node-3");
        let other = Uuid::from_u128(0xb).to_string();
        assert_eq!(
            refused(&with(CLUSTER, &other)),
            format!("node-2 belongs to cluster {CLUSTER_A}, not to {other}")
        );
        for key in [VERSION, CLUSTER, FROM, TO] {
            assert_eq!(refused(&without(key)), format!("`{key}` is missing"));
        }
        assert_eq!(
            lane(&with(LANE, "x")).unwrap_err(),
            "there is no lane `x`".to_owned()
        );
    }

    /// Before a cluster is founded nodes talk, but have no links; members of another cluster never.
    #[test]
    fn newcomers_may_ask_but_not_link() {
        let member = me("node-1", Some(CLUSTER_A));
        let newcomer = me("node-2", None);
        let stranger = me("node-3", Some(Uuid::from_u128(0xb)));
        let ask = |from: &Me, to: &Me, audience| {
            admit(to, &call(from, Callee::Anyone), None, audience).is_ok()
        };
        assert!(ask(&newcomer, &member, Audience::Newcomers));
        assert!(ask(&member, &newcomer, Audience::Newcomers));
        assert!(!ask(&stranger, &member, Audience::Newcomers));
        assert!(!ask(&newcomer, &member, Audience::Members));
        assert_eq!(
            admit(
                &newcomer,
                &call(&member, Callee::Member("node-2")),
                None,
                Audience::Members
            )
            .unwrap_err(),
            "node-2 belongs to no cluster yet"
        );
    }

    /// A certificate is worth more than what its owner says.
    #[test]
    fn names_must_be_those_of_the_certificates() {
        let (one, two) = (me("node-1", Some(CLUSTER_A)), me("node-2", Some(CLUSTER_A)));
        let metadata = call(&one, Callee::Member("node-2"));
        let admit = |name| admit(&two, &metadata, Some(&certificate(name)), Audience::Members);
        assert!(admit("node-1").is_ok());
        assert_eq!(
            admit("node-3").unwrap_err(),
            "the certificate is of node-3, not of node-1"
        );
        let answer = call(&two, Callee::Anyone);
        let recognise = |certificate: Option<CertificateName>, callee| {
            recognise(&one, &answer, certificate.as_ref(), callee)
        };
        assert!(recognise(None, Callee::Member("node-2")).is_ok());
        assert!(recognise(Some(certificate("node-2")), Callee::Anyone).is_ok());
        assert!(recognise(Some(certificate("node-3")), Callee::Anyone).is_err());
        assert_eq!(
            recognise(None, Callee::Member("node-3")).unwrap_err(),
            "node-2 answers there, not node-3"
        );
    }

    /// "Refused" must be told from "lost on the way".
    #[test]
    fn refusals_are_marked() {
        let refused = refusal(&me("node-1", None), Code::FailedPrecondition, "no");
        assert!(is_refusal(&refused));
        assert!(!is_refusal(&Status::unavailable("connection lost")));
    }
}
