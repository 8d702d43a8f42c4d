//! `ListShadows` and `ListDevices`.

use antumbra_proto::v1;
use antumbra_shadow::DeviceKey;
use tokio::time::Instant;

use super::{Door, convert};
use crate::error::Error;
use crate::shadows::ListRequest;

/// Entries on a page, when the caller does not say.
const PAGE_SIZE_DEFAULT: usize = 100;
/// Most entries on a page.
const PAGE_SIZE_MAX: usize = 1000;

pub(super) async fn shadows(
    door: &Door,
    request: v1::ListShadowsRequest,
    deadline: Instant,
) -> Result<v1::ListShadowsResponse, Error> {
    let tenant = convert::tenant(&request.tenant, &door.caller, "tenant")?;
    let device = convert::device_id(&request.device_id, "device_id")?;
    let page = ListRequest {
        page_size: page_size(request.page_size)?,
        page_token: &request.page_token,
    };
    let device = DeviceKey { tenant, device };
    let page = door
        .shadows
        .list_shadows(&door.caller, &device, page, deadline)
        .await?;
    Ok(v1::ListShadowsResponse {
        shadows: page
            .shadows
            .into_iter()
            .map(|summary| v1::ShadowSummary {
                shadow_name: summary.name.to_string(),
                version: summary.version,
                updated: Some(convert::timestamp(summary.updated)),
            })
            .collect(),
        next_page_token: page.next_page_token,
    })
}

pub(super) async fn devices(
    door: &Door,
    request: v1::ListDevicesRequest,
    deadline: Instant,
) -> Result<v1::ListDevicesResponse, Error> {
    let tenant = convert::tenant(&request.tenant, &door.caller, "tenant")?;
    let prefix = convert::prefix(&request.device_id_prefix)?;
    let page = ListRequest {
        page_size: page_size(request.page_size)?,
        page_token: &request.page_token,
    };
    let page = door
        .shadows
        .list_devices(&door.caller, &tenant, prefix, page, deadline)
        .await?;
    Ok(v1::ListDevicesResponse {
        device_ids: page.devices.iter().map(ToString::to_string).collect(),
        next_page_token: page.next_page_token,
    })
}

/// 0 is what protobuf says when the caller says nothing.
pub(super) fn page_size(size: i32) -> Result<usize, Error> {
    match usize::try_from(size) {
        Ok(0) => Ok(PAGE_SIZE_DEFAULT),
        Ok(size) if size <= PAGE_SIZE_MAX => Ok(size),
        _ => Err(Error::invalid(
            "page_size",
            format!("must be 1 to {PAGE_SIZE_MAX}"),
        )),
    }
}
