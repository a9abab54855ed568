//! Where a node stands: the failure domains that it belongs to, the widest first.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

/// One failure domain, such as `zone=b`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Tier {
    #[n(0)]
    pub key: String,
    #[n(1)]
    pub value: String,
}

/// Failure domains, the widest first: `region=eu,zone=b,host=h7`. A node without a locality fails on its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Locality {
    #[n(0)]
    tiers: Vec<Tier>,
}

impl Locality {
    /// Tiers past which a locality is refused.
    pub const TIERS_MAX: usize = 8;

    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// The value of a tier, if the locality has it.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.tiers.iter().find(|tier| tier.key == key).map(|tier| tier.value.as_str())
    }

    /// How many tiers, from the widest on, two localities share.
    pub fn shared_with(&self, other: &Locality) -> usize {
        self.tiers.iter().zip(&other.tiers).take_while(|(a, b)| a == b).count()
    }
}

/// Why a locality could not be read: a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalityError(String);

impl fmt::Display for LocalityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LocalityError {}

impl FromStr for Locality {
    type Err = LocalityError;

    fn from_str(text: &str) -> Result<Locality, LocalityError> {
        let mut tiers: Vec<Tier> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let pair = part.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
            let Some((key, value)) = pair.filter(|(key, value)| !key.is_empty() && !value.is_empty()) else {
                return Err(LocalityError(format!("\"{part}\" in the locality is not of the form tier=value")));
            };
            if tiers.iter().any(|tier| tier.key == key) {
                return Err(LocalityError(format!("the locality names the tier \"{key}\" twice")));
            }
            tiers.push(Tier { key: key.into(), value: value.into() });
        }
        if tiers.len() > Self::TIERS_MAX {
            return Err(LocalityError(format!("a locality has at most {} tiers", Self::TIERS_MAX)));
        }
        Ok(Locality { tiers })
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, tier) in self.tiers.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            write!(f, "{comma}{}={}", tier.key, tier.value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locality_is_read_as_it_is_written() {
        let locality: Locality = "region=eu, zone=b,host=h7".parse().unwrap();
        assert_eq!(locality.to_string(), "region=eu,zone=b,host=h7");
        assert_eq!(locality.get("zone"), Some("b"));
        let other: Locality = "region=eu,zone=c,host=h7".parse().unwrap();
        assert_eq!(locality.shared_with(&other), 1);
        assert_eq!("".parse::<Locality>().unwrap(), Locality::default());
        assert!("region".parse::<Locality>().unwrap_err().to_string().contains("tier=value"));
        assert!("a=1,a=2".parse::<Locality>().unwrap_err().to_string().contains("twice"));
    }
}
