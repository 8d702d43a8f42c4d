//! `Explain`: where a device is and how its shard is doing.

use std::sync::Arc;
use std::time::Duration;

use antumbra_proto::cluster::v1;
use antumbra_shadow::{DeviceKey, Tenant};
use tokio::time::{Instant, sleep, timeout};

use crate::api::{Door, convert};
use crate::cluster::control::TwinReport;
use crate::cluster::office::Office;
use crate::cluster::{Answer, Request};
use crate::error::Error;

use super::survey::{Survey, cause};
use super::{messages, remaining, soon};

/// How long the leader may take: it reads the versions of one device.
const DEVICE_TIMEOUT: Duration = Duration::from_millis(1500);
/// How often the leader is looked for, when it changes meanwhile.
const ATTEMPTS: usize = 3;
/// Pause between two of them: an election takes longer than a question.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn explain(
    door: &Door,
    request: v1::ExplainRequest,
    deadline: Instant,
) -> Result<v1::ExplainResponse, Error> {
    let tenant = convert::tenant(&request.tenant, &door.caller, "tenant")?;
    let own: Option<&Tenant> = door.caller.tenant.as_ref();
    if own.is_some_and(|own| *own != tenant) {
        return Err(Error::PermissionDenied);
    }
    let device = convert::device_id(&request.device_id, "device_id")?;
    let key = DeviceKey { tenant, device };
    let until = soon(deadline);
    let mut survey = Survey::take(&door.cluster, until).await?;
    let shard = shard_of(&survey, key.hash())?;
    let mut asked = ask(&door.cluster, &survey, shard, &key, until).await;
    for _ in 1..ATTEMPTS {
        if asked.is_ok() || remaining(until) <= PAUSE {
            break;
        }
        sleep(PAUSE).await;
        survey = Survey::take(&door.cluster, until).await?;
        asked = ask(&door.cluster, &survey, shard, &key, until).await;
    }
    let record = survey.state.shards.get(&shard);
    let (device, reason) = match asked {
        Ok(report) => (Some(self::device(report)), String::new()),
        Err(why) => (None, why),
    };
    Ok(v1::ExplainResponse {
        tenant: key.tenant.to_string(),
        device_id: key.device.to_string(),
        hash: key.hash(),
        shard: record.map(|record| messages::shard(&survey, shard, record)),
        device,
        reason,
    })
}

/// The shard that owns a hash.
fn shard_of(survey: &Survey, hash: u32) -> Result<u32, Error> {
    let mut shards = survey.state.shards.iter();
    let owner = shards.find(|(_, record)| record.range().contains(hash));
    let (shard, _) = owner.ok_or(Error::Internal("no shard owns the device"))?;
    Ok(*shard)
}

async fn ask(
    office: &Arc<Office>,
    survey: &Survey,
    shard: u32,
    key: &DeviceKey,
    until: Instant,
) -> Result<TwinReport, String> {
    let leader = survey.leader(shard).ok_or("its shard has no leader")?;
    let name = survey.name(leader.node);
    let request = Request::Twin {
        tenant: key.tenant.to_string(),
        device: key.device.to_string(),
    };
    let limit = remaining(until).min(DEVICE_TIMEOUT);
    let asked = office.ask_node(leader.node, &request, limit);
    match timeout(limit, asked).await {
        Ok(Ok(Answer::Twin(report))) => Ok(report),
        Ok(Ok(Answer::NotLeader(_))) => Err(format!("{name} leads its shard no more")),
        Ok(Ok(Answer::Refused(why))) => Err(format!("{name}: {why}")),
        Ok(Ok(_)) => Err(format!("{name} answered another question")),
        Ok(Err(error)) => Err(format!("{name}: {}", cause(error))),
        Err(_) => Err(format!("{name} did not answer in time")),
    }
}

fn device(report: TwinReport) -> v1::Device {
    let shadows = report.versions.into_iter();
    let shadow = |(shadow_name, version)| v1::ShadowVersion {
        shadow_name,
        version,
    };
    v1::Device {
        twin_live: report.live,
        shadows: shadows.map(shadow).collect(),
    }
}
