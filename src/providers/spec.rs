//! `spec.provider` of a store: the enum that is schema and dispatcher at once, made from the list of providers.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Provider;
use super::providers;
use crate::api::rules;

/// Providers that ESO has and keyferry does not serve yet. Their blocks are stored as they are, and the store says so.
/// `alibaba` and `device42` are in ESO's v1beta1 only.
const NOT_SERVED: &[&str] = &[
    "alibaba",
    "barbican",
    "beyondtrust",
    "beyondtrustworkloadcredentials",
    "chef",
    "cloudrusm",
    "crd",
    "device42",
    "dvls",
    "fortanix",
    "nebiusmysterybox",
    "ngrok",
    "onboardbase",
    "onepasswordSDK",
    "oracle",
    "ovh",
    "passbolt",
    "passworddepot",
    "previder",
    "senhasegura",
    "volcengine",
    "yandexcertificatemanager",
    "yandexlockbox",
];

macro_rules! provider_spec {
    ($($field:ident: $variant:ident = $config:ty,)+) => {
        /// The secret manager of a store: exactly one block.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub enum ProviderSpec {
            $(
                #[doc = concat!("`", stringify!($field), "`")]
                $variant(Box<$config>),
            )+
            /// A provider that keyferry does not serve yet, by its name in the manifest.
            NotServed(String),
            /// None, or more than one: how many. The schema refuses it; an object without a spec gets here.
            #[default]
            None,
        }

        impl ProviderSpec {
            /// Names of the providers that are served, as they stand in manifests.
            pub const SERVED: &'static [&'static str] = &[$(stringify!($field)),+];

            /// Names of the providers that ESO has and that are not served.
            #[must_use]
            pub fn not_served() -> &'static [&'static str] {
                NOT_SERVED
            }

            /// The provider's name, as it stands in manifests.
            #[must_use]
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$variant(_) => stringify!($field),)+
                    Self::NotServed(name) => name,
                    Self::None => "",
                }
            }

            /// The provider, if it is served.
            #[must_use]
            pub fn served(&self) -> Option<&dyn Provider> {
                match self {
                    $(Self::$variant(config) => Some(config.as_ref()),)+
                    Self::NotServed(_) | Self::None => None,
                }
            }
        }

        impl Serialize for ProviderSpec {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                match self {
                    $(Self::$variant(config) => map.serialize_entry(stringify!($field), config)?,)+
                    Self::NotServed(name) => map.serialize_entry(name, &serde_json::Map::new())?,
                    Self::None => {}
                }
                map.end()
            }
        }

        impl<'de> Visitor<'de> for ProviderVisitor {
            type Value = ProviderSpec;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object with exactly one provider")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ProviderSpec, A::Error> {
                let mut found = ProviderSpec::None;
                while let Some(name) = map.next_key::<String>()? {
                    if found != ProviderSpec::None {
                        return Err(A::Error::custom("secret stores must only have exactly one backend specified"));
                    }
                    found = match name.as_str() {
                        $(stringify!($field) => ProviderSpec::$variant(map.next_value()?),)+
                        _ => {
                            map.next_value::<serde::de::IgnoredAny>()?;
                            ProviderSpec::NotServed(name)
                        }
                    };
                }
                Ok(found)
            }
        }

        impl JsonSchema for ProviderSpec {
            fn schema_name() -> Cow<'static, str> {
                "Provider".into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let mut properties = serde_json::Map::new();
                $(properties.insert(stringify!($field).into(), generator.subschema_for::<$config>().into());)+
                for name in NOT_SERVED {
                    properties.insert((*name).into(), json_schema!({
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": true,
                    }).into());
                }
                let one = rules::exactly_one(properties.keys().map(String::as_str), rules::ONE_PROVIDER);
                json_schema!({
                    "type": "object",
                    "description": "The secret manager: exactly one block.",
                    "properties": properties,
                    "x-kubernetes-validations": one,
                })
            }
        }
    };
}
providers!(provider_spec);

use super::*;

struct ProviderVisitor;

impl<'de> Deserialize<'de> for ProviderSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ProviderVisitor)
    }
}
