//! `ListNamedShadowsForThing`.

use std::collections::HashMap;

use antumbra_shadow::ShadowName;

use super::Call;
use crate::dialect::aws;
use crate::error::Error;
use crate::shadows::ListRequest;

/// Names on a page, when the caller does not say.
const PAGE_SIZE_DEFAULT: usize = 25;
/// Most names on a page.
const PAGE_SIZE_MAX: usize = 100;
/// Most pages of ours that are put together to fill one of theirs.
const ROUNDS_MAX: usize = 8;

pub(super) async fn list(
    call: &Call,
    parameters: &HashMap<String, String>,
) -> Result<String, Error> {
    let page_size = page_size(parameters)?;
    let mut token = match parameters.get("nextToken") {
        Some(token) if token.is_empty() => return Err(invalid_token()),
        Some(token) => token.clone(),
        None => String::new(),
    };

    // The classic shadow is not listed, so a page of ours may give one name less.
    let mut names: Vec<ShadowName> = Vec::new();
    let door = &call.door;
    for _ in 0..ROUNDS_MAX {
        let request = ListRequest {
            page_size: page_size - names.len(),
            page_token: &token,
        };
        let page = door
            .shadows
            .list_shadows(&door.caller, &call.device, request, call.deadline)
            .await
            .map_err(name_the_token)?;
        let listed = page.shadows.into_iter().map(|summary| summary.name);
        names.extend(listed.filter(|name| !name.is_classic()));
        token = page.next_page_token;
        if token.is_empty() || names.len() >= page_size {
            break;
        }
    }
    let next_token = Some(token.as_str()).filter(|token| !token.is_empty());
    Ok(aws::named_shadows(&names, next_token, door.now()))
}

fn page_size(parameters: &HashMap<String, String>) -> Result<usize, Error> {
    let Some(text) = parameters.get("pageSize") else {
        return Ok(PAGE_SIZE_DEFAULT);
    };
    match text.parse() {
        Ok(size) if (1..=PAGE_SIZE_MAX).contains(&size) => Ok(size),
        _ => Err(Error::invalid("pageSize", "Invalid pageSize")),
    }
}

/// What this door calls the token is not what the use case calls it.
fn name_the_token(error: Error) -> Error {
    match error {
        Error::Invalid { field, .. } if field == "page_token" => invalid_token(),
        other => other,
    }
}

fn invalid_token() -> Error {
    Error::invalid("nextToken", "Invalid nextToken")
}
