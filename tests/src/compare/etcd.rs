//! Calls to members of etcd. The few messages that are needed are written by hand, with the field
//! numbers of etcd's `rpc.proto` and `kv.proto`; fields that are not read are left out.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::load::{Caller, reason};
use super::tally::Done;
use super::workload::{self, Walk};

/// `etcdserverpb.PutRequest`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

/// `etcdserverpb.PutResponse`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PutResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<ResponseHeader>,
}

/// `etcdserverpb.RangeRequest`. Without field 7 (`serializable`) it is linearizable.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
}

/// `etcdserverpb.RangeResponse`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    pub(crate) kvs: Vec<KeyValue>,
}

/// `mvccpb.KeyValue`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(int64, tag = "3")]
    pub(crate) mod_revision: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) value: Bytes,
}

/// `etcdserverpb.Compare`, with `mod_revision` as what is compared.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Compare {
    #[prost(int32, tag = "1")]
    pub(crate) result: i32,
    #[prost(int32, tag = "2")]
    pub(crate) target: i32,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) key: Bytes,
    /// A member of a oneof: present even when it is 0.
    #[prost(int64, optional, tag = "6")]
    pub(crate) mod_revision: Option<i64>,
}

const RESULT_EQUAL: i32 = 0;
const TARGET_MOD: i32 = 2;

/// `etcdserverpb.RequestOp`: exactly one of the two is present.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RequestOp {
    #[prost(message, optional, tag = "1")]
    pub(crate) request_range: Option<RangeRequest>,
    #[prost(message, optional, tag = "2")]
    pub(crate) request_put: Option<PutRequest>,
}

/// `etcdserverpb.ResponseOp`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResponseOp {
    #[prost(message, optional, tag = "1")]
    pub(crate) response_range: Option<RangeResponse>,
}

/// `etcdserverpb.TxnRequest`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) success: Vec<RequestOp>,
}

/// `etcdserverpb.TxnResponse`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TxnResponse {
    #[prost(bool, tag = "2")]
    pub(crate) succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub(crate) responses: Vec<ResponseOp>,
}

/// `etcdserverpb.ResponseHeader`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    pub(crate) member_id: u64,
}

/// `etcdserverpb.StatusRequest`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StatusRequest {}

/// `etcdserverpb.StatusResponse`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
    #[prost(uint64, tag = "4")]
    pub(crate) leader: u64,
}

/// A client of one member. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Etcd {
    grpc: Grpc<Channel>,
}

impl Etcd {
    pub(crate) fn new(channel: Channel) -> Self {
        Etcd {
            grpc: Grpc::new(channel),
        }
    }

    async fn unary<Q, A>(&mut self, path: &'static str, message: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let ready = self.grpc.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static(path);
        let request = Request::new(message);
        let answer = self.grpc.unary(request, path, ProstCodec::default()).await;
        Ok(answer?.into_inner())
    }

    pub(crate) async fn put(&mut self, key: Bytes, value: Bytes) -> Result<PutResponse, Status> {
        let request = PutRequest { key, value };
        self.unary("/etcdserverpb.KV/Put", request).await
    }

    async fn range(&mut self, key: Bytes) -> Result<RangeResponse, Status> {
        self.unary("/etcdserverpb.KV/Range", RangeRequest { key })
            .await
    }

    async fn txn(&mut self, request: TxnRequest) -> Result<TxnResponse, Status> {
        self.unary("/etcdserverpb.KV/Txn", request).await
    }

    async fn status(&mut self) -> Result<StatusResponse, Status> {
        self.unary("/etcdserverpb.Maintenance/Status", StatusRequest {})
            .await
    }
}

/// Where whole documents are kept.
pub(crate) fn document_key(n: u64) -> Bytes {
    format!("shadow/{}", workload::device(n)).into()
}

/// Where blind puts go, so that they do not shrink the documents.
pub(crate) fn patch_key(n: u64) -> Bytes {
    format!("patch/{}", workload::device(n)).into()
}

/// Put only if the key was last changed at this revision.
fn put_if_unchanged(key: Bytes, mod_revision: i64, value: Bytes) -> TxnRequest {
    TxnRequest {
        compare: vec![Compare {
            result: RESULT_EQUAL,
            target: TARGET_MOD,
            key: key.clone(),
            mod_revision: Some(mod_revision),
        }],
        success: vec![RequestOp {
            request_put: Some(PutRequest { key, value }),
            request_range: None,
        }],
    }
}

/// `Put` of a patch, blindly.
pub(crate) struct Put {
    pub(crate) etcd: Etcd,
    pub(crate) walk: Walk,
}

impl Caller for Put {
    async fn call(&mut self) -> Result<Done, String> {
        let (key, change) = self.walk.next();
        let value = workload::patch(key, change).into();
        let answer = self.etcd.put(patch_key(key), value).await;
        answer.map(|_| Done::ONE).map_err(|status| reason(&status))
    }
}

/// Read, compare, write: `Range`, then `Txn`, again from the start when somebody was faster.
pub(crate) struct ReadCompareWrite {
    pub(crate) etcd: Etcd,
    pub(crate) walk: Walk,
}

impl Caller for ReadCompareWrite {
    async fn call(&mut self) -> Result<Done, String> {
        let (number, change) = self.walk.next();
        let key = document_key(number);
        let mut conflicts = 0;
        loop {
            let found = self.etcd.range(key.clone()).await;
            let found = found.map_err(|status| reason(&status))?.kvs;
            let Some(found) = found.first().filter(|found| !found.value.is_empty()) else {
                return Err("INCOMPLETE".to_owned());
            };
            let value = workload::document(number, change).into();
            let request = put_if_unchanged(key.clone(), found.mod_revision, value);
            let answer = self.etcd.txn(request).await;
            if answer.map_err(|status| reason(&status))?.succeeded {
                return Ok(Done {
                    operations: 1,
                    conflicts,
                });
            }
            conflicts += 1;
        }
    }
}

/// `Range` of one document, linearizable.
pub(crate) struct Read {
    pub(crate) etcd: Etcd,
    pub(crate) walk: Walk,
}

impl Caller for Read {
    async fn call(&mut self) -> Result<Done, String> {
        let answer = self.etcd.range(document_key(self.walk.next().0)).await;
        let answer = answer.map_err(|status| reason(&status))?;
        match answer.kvs.first() {
            Some(found) if !found.value.is_empty() => Ok(Done::ONE),
            _ => Err("INCOMPLETE".to_owned()),
        }
    }
}

/// A `Txn` of many ranges, linearizable: the nearest thing to a batch of reads.
pub(crate) struct ReadBatch {
    pub(crate) etcd: Etcd,
    pub(crate) walk: Walk,
    pub(crate) size: u64,
}

impl Caller for ReadBatch {
    async fn call(&mut self) -> Result<Done, String> {
        let read = |n| RequestOp {
            request_range: Some(RangeRequest {
                key: document_key(n),
            }),
            request_put: None,
        };
        let request = TxnRequest {
            compare: Vec::new(),
            success: self.walk.next_row(self.size).map(read).collect(),
        };
        let asked = request.success.len();
        let answer = self.etcd.txn(request).await;
        let answer = answer.map_err(|status| reason(&status))?;
        let found = answer.responses.iter().filter_map(|response| {
            let kvs = &response.response_range.as_ref()?.kvs;
            kvs.first().filter(|found| !found.value.is_empty())
        });
        if found.count() != asked {
            return Err("INCOMPLETE".to_owned());
        }
        Ok(Done {
            operations: asked as u64,
            conflicts: 0,
        })
    }
}

/// What the members say of themselves.
pub(crate) struct About {
    /// Version of the program.
    pub(crate) version: String,
    /// Place of the leader's endpoint.
    pub(crate) leader: usize,
}

/// Asks all members. An error when they know no leader, or not the same one.
pub(crate) async fn about(members: &mut [Etcd]) -> Result<About> {
    let (mut version, mut leaders, mut ids) = (String::new(), Vec::new(), Vec::new());
    for member in members {
        let status = member
            .status()
            .await
            .context("ask a member for its status")?;
        version = status.version;
        leaders.push(status.leader);
        ids.push(status.header.unwrap_or_default().member_id);
    }
    let agreed = leaders.windows(2).all(|pair| pair[0] == pair[1]);
    let leader = ids.iter().position(|id| leaders.first() == Some(id));
    match leader {
        Some(leader) if agreed => Ok(About { version, leader }),
        _ => bail!("the members do not agree on a leader: {leaders:?} of {ids:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wrong field numbers would make etcd do other work than the table says: a wrong target
    /// compares versions, a wrong field in a range makes it serializable.
    #[test]
    fn requests_have_known_bytes() {
        let put = PutRequest {
            key: "k".into(),
            value: "vw".into(),
        };
        assert_eq!(put.encode_to_vec(), b"\x0a\x01k\x12\x02vw");
        let range = RangeRequest { key: "k".into() };
        assert_eq!(range.encode_to_vec(), b"\x0a\x01k");
        let read = RequestOp {
            request_range: Some(range),
            request_put: None,
        };
        assert_eq!(read.encode_to_vec(), b"\x0a\x03\x0a\x01k");
        let txn = put_if_unchanged("k".into(), 300, "vw".into());
        assert_eq!(
            txn.encode_to_vec(),
            // compare { target: MOD, key, mod_revision }, success { request_put { key, value } }
            b"\x0a\x08\x10\x02\x1a\x01k\x30\xac\x02\x12\x09\x12\x07\x0a\x01k\x12\x02vw"
        );
        // A member of a oneof travels even when it is 0; then the key must not exist.
        let create = put_if_unchanged("k".into(), 0, "".into());
        assert!(
            create
                .encode_to_vec()
                .starts_with(b"\x0a\x07\x10\x02\x1a\x01k\x30\x00")
        );
    }

    /// Answers as a member sends them, with fields that are not read here.
    #[test]
    fn answers_are_read_from_known_bytes() {
        // header { cluster 1, member 7, revision 9, term 2 }, kvs { key, create 3, mod 300,
        // version 4, value, lease 5 }, count 1
        let range = b"\x0a\x08\x08\x01\x10\x07\x18\x09\x20\x02\
            \x12\x11\x0a\x01k\x10\x03\x18\xac\x02\x20\x04\x2a\x03abc\x30\x05\x20\x01";
        let range = RangeResponse::decode(&range[..]).unwrap();
        assert_eq!(range.kvs.len(), 1);
        assert_eq!(range.kvs[0].key, "k");
        assert_eq!(range.kvs[0].mod_revision, 300);
        assert_eq!(range.kvs[0].value, "abc");

        // header, succeeded, responses { response_range { kvs { key, value } } }
        let txn = b"\x0a\x02\x10\x07\x10\x01\x1a\x0a\x0a\x08\x12\x06\x0a\x01k\x2a\x01v";
        let txn = TxnResponse::decode(&txn[..]).unwrap();
        assert!(txn.succeeded);
        let read = txn.responses[0].response_range.as_ref().unwrap();
        assert_eq!(read.kvs[0].value, "v");

        // header { member 7 }, version, db size 4096, leader 7, raft index 5, raft term 2
        let status = b"\x0a\x02\x10\x07\x12\x053.5.1\x18\x80\x20\x20\x07\x28\x05\x30\x02";
        let status = StatusResponse::decode(&status[..]).unwrap();
        assert_eq!((status.version.as_str(), status.leader), ("3.5.1", 7));
        assert_eq!(status.header.unwrap().member_id, 7);
    }
}
