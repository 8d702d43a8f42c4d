//! Rules that say where a certificate names tenant, device and role.

use std::str::FromStr;

/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 256;

/// What a rule finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The tenant.
    Tenant,
    /// The device.
    Device,
    /// The name of the role.
    Role,
}

/// Where to look, and what is found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// `common_name = device`: all of the common name of the subject.
    CommonName(Field),
    /// `organisation = tenant`: all of its organisation.
    Organisation(Field),
    /// `organisational_unit = role`: all of its organisational unit.
    OrganisationalUnit(Field),
    /// `dns = {device}.devices.example.com`: parts of an alternative name.
    Dns(Pattern),
    /// `uri = spiffe://{tenant}/device/{device}`: parts of an alternative name.
    Uri(Pattern),
}

/// A text with places `{tenant}`, `{device}` and `{role}`, each at most once.
///
/// A place takes characters that names have, at least one. What follows a place begins with another
/// character, so that a text is never read in two ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// What stands before the first place.
    head: Box<str>,
    /// The places, each with what stands after it.
    places: Box<[(Field, Box<str>)]>,
}

/// Why a text is not a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It has not the form `source = field` or `source = pattern`.
    #[error("a rule has the form `common_name = device` or `uri = spiffe://{{tenant}}/{{device}}`")]
    Form,
    /// The source is not known.
    #[error("the source is one of common_name, organisation, organisational_unit, dns, uri")]
    Source,
    /// The field is not known, or is used twice.
    #[error("a field is one of tenant, device, role, each at most once")]
    Field,
    /// The pattern has no place.
    #[error("a pattern has at least one of {{tenant}}, {{device}}, {{role}}")]
    Empty,
    /// The pattern could read a text in two ways.
    #[error("after a place comes a character that no name has, or the end")]
    Ambiguous,
    /// The pattern is too long.
    #[error("a pattern has at most {PATTERN_BYTES_MAX} bytes")]
    TooLong,
}

impl Field {
    /// What to say of a name that is none.
    pub(super) fn bad(self) -> &'static str {
        match self {
            Field::Tenant => "the tenant in the certificate",
            Field::Device => "the device in the certificate",
            Field::Role => "the role in the certificate",
        }
    }
}

impl FromStr for Field {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Field, RuleError> {
        match text {
            "tenant" => Ok(Field::Tenant),
            "device" => Ok(Field::Device),
            "role" => Ok(Field::Role),
            _ => Err(RuleError::Field),
        }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Rule, RuleError> {
        let (source, target) = text.split_once('=').ok_or(RuleError::Form)?;
        let target = target.trim();
        match source.trim() {
            "common_name" => target.parse().map(Rule::CommonName),
            "organisation" => target.parse().map(Rule::Organisation),
            "organisational_unit" => target.parse().map(Rule::OrganisationalUnit),
            "dns" => target.parse().map(Rule::Dns),
            "uri" => target.parse().map(Rule::Uri),
            _ => Err(RuleError::Source),
        }
    }
}

impl FromStr for Pattern {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Pattern, RuleError> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(RuleError::TooLong);
        }
        let mut parts = text.split('{');
        let head = parts.next().unwrap_or_default();
        let mut places: Vec<(Field, Box<str>)> = Vec::new();
        for part in parts {
            let (name, after) = part.split_once('}').ok_or(RuleError::Form)?;
            let field: Field = name.parse()?;
            if places.iter().any(|(earlier, _)| *earlier == field) {
                return Err(RuleError::Field);
            }
            places.push((field, after.into()));
        }
        let (last, between) = places.split_last().ok_or(RuleError::Empty)?;
        let ends = last.1.is_empty() || !begins_with_name(&last.1);
        let apart = |(_, after): &(Field, Box<str>)| !after.is_empty() && !begins_with_name(after);
        if !ends || !between.iter().all(apart) {
            return Err(RuleError::Ambiguous);
        }
        if head.contains('}') || places.iter().any(|(_, after)| after.contains('}')) {
            return Err(RuleError::Form);
        }
        Ok(Pattern {
            head: head.into(),
            places: places.into(),
        })
    }
}

impl Pattern {
    /// What a text names; nothing when it is not of this form.
    pub(super) fn read<'a>(&self, text: &'a str) -> Option<Vec<(Field, &'a str)>> {
        let mut rest = text.strip_prefix(&*self.head)?;
        let mut values = Vec::with_capacity(self.places.len());
        for (field, after) in &self.places {
            let end = rest.find(|character| !is_name(character));
            let (value, follows) = rest.split_at(end.unwrap_or(rest.len()));
            if value.is_empty() {
                return None;
            }
            values.push((*field, value));
            rest = follows.strip_prefix(&**after)?;
        }
        rest.is_empty().then_some(values)
    }
}

fn begins_with_name(text: &str) -> bool {
    text.starts_with(is_name)
}

/// The alphabet of tenants, devices and roles.
fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, ':' | '_' | '-')
}
