//! The public wire contract of Antumbra: the `.proto` files next to this crate's `src/` and the
//! types generated from them. Nothing else lives here; conversions to the domain are in the doors
//! of the node, and this crate knows neither shadows nor shards.

#![forbid(unsafe_code)]

/// `antumbra.v1`: the door for backend services.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]
    tonic::include_proto!("antumbra.v1");
}

/// Every `.proto` file with its imports and comments, encoded as a
/// `google.protobuf.FileDescriptorSet`; what gRPC reflection serves.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("antumbra");

#[cfg(test)]
mod tests {
    use prost::Message;

    /// Reflection clients depend on the descriptor set naming the service and its imports.
    #[test]
    fn descriptor_set_holds_the_service_and_its_imports() {
        let set = prost_types::FileDescriptorSet::decode(super::FILE_DESCRIPTOR_SET).unwrap();
        let files: Vec<_> = set.file.iter().map(|file| file.name()).collect();
        assert!(files.contains(&"antumbra/v1/shadows.proto"), "{files:?}");
        assert!(
            files.contains(&"google/protobuf/timestamp.proto"),
            "{files:?}"
        );
        let service = set
            .file
            .iter()
            .flat_map(|file| &file.service)
            .next()
            .unwrap();
        assert_eq!((service.name(), service.method.len()), ("Shadows", 9));
    }
}
