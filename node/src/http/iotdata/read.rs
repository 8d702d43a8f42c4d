//! `GetThingShadow`.

use super::Call;
use crate::dialect::aws;
use crate::error::Error;
use crate::shadows::ReadOptions;

pub(super) async fn get(call: &Call) -> Result<String, Error> {
    let door = &call.door;
    let options = ReadOptions::default();
    let read = door
        .shadows
        .get(
            &door.caller,
            &call.device,
            &call.shadow,
            options,
            call.deadline,
        )
        .await?;
    Ok(aws::document(&read.document, door.now(), None))
}
