//! The wire contracts of Antumbra, the public one and the one between nodes: the `.proto` files
//! next to this crate's `src/` and the types generated from them. Nothing else lives here;
//! conversions to the domain are in the doors of the node, and this crate knows neither shadows nor
//! shards.

#![forbid(unsafe_code)]

/// `antumbra.v1`: the door for backend services.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]
    tonic::include_proto!("antumbra.v1");
}

/// `antumbra.cluster.v1`: the door for operators.
pub mod cluster {
    /// Version 1 of the door.
    pub mod v1 {
        #![allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]
        tonic::include_proto!("antumbra.cluster.v1");
    }
}

/// `antumbra.admin.v1`: the door for who may come in.
pub mod admin {
    /// Version 1 of the door.
    pub mod v1 {
        #![allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]
        tonic::include_proto!("antumbra.admin.v1");
    }
}

/// `antumbra.peer.v1`: the link between nodes. Internal.
pub mod peer {
    /// Version 1 of the link.
    pub mod v1 {
        #![allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]
        tonic::include_proto!("antumbra.peer.v1");
    }
}

/// Every public `.proto` file with its imports and comments, encoded as a
/// `google.protobuf.FileDescriptorSet`; what gRPC reflection serves.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("antumbra");

#[cfg(test)]
mod tests {
    use prost::Message;

    /// Reflection clients depend on the descriptor set naming the services and their imports.
    #[test]
    fn descriptor_set_holds_the_services_and_their_imports() {
        let set = prost_types::FileDescriptorSet::decode(super::FILE_DESCRIPTOR_SET).unwrap();
        let files: Vec<_> = set.file.iter().map(|file| file.name()).collect();
        assert!(files.contains(&"antumbra/v1/shadows.proto"), "{files:?}");
        assert!(
            files.contains(&"google/protobuf/timestamp.proto"),
            "{files:?}"
        );
        let services = set.file.iter().flat_map(|file| &file.service);
        let mut services: Vec<_> = services
            .map(|service| (service.name(), service.method.len()))
            .collect();
        services.sort_unstable();
        assert_eq!(services, [("Admin", 9), ("Cluster", 13), ("Shadows", 9)]);
    }

    /// Nobody outside the cluster should build on what nodes say to each other.
    #[test]
    fn descriptor_set_has_nothing_internal() {
        let set = prost_types::FileDescriptorSet::decode(super::FILE_DESCRIPTOR_SET).unwrap();
        let mut packages = set.file.iter().map(|file| file.package());
        assert!(packages.all(|package| !package.starts_with("antumbra.peer")));
    }
}
