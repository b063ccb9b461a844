//! The envelope of every response (SPEC 8.2).

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, IgnoredAny, SeqAccess},
    ser::SerializeTuple,
};

/// How a request went (SPEC 8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Done; the reply has a body.
    Ok,
    /// The node has too much to do: try again later, or elsewhere.
    Busy,
    /// The requester used up its quota.
    RateLimited,
    /// The request breaks the protocol; sending it again will not help.
    BadRequest,
    /// The node could not do it.
    Failed,
}

impl Status {
    const fn code(self) -> u64 {
        match self {
            Status::Ok => 0,
            Status::Busy => 1,
            Status::RateLimited => 2,
            Status::BadRequest => 3,
            Status::Failed => 4,
        }
    }

    /// A status this version does not know counts as failed.
    const fn from_code(code: u64) -> Self {
        match code {
            0 => Status::Ok,
            1 => Status::Busy,
            2 => Status::RateLimited,
            3 => Status::BadRequest,
            _ => Status::Failed,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Ok => "ok",
            Status::Busy => "busy",
            Status::RateLimited => "rate limited",
            Status::BadRequest => "bad request",
            Status::Failed => "failed",
        })
    }
}

/// A response, or why there is none (SPEC 8.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<T> {
    /// The response of the operation.
    Ok(T),
    /// No response.
    Refused {
        /// Why; never [`Status::Ok`].
        status: Status,
        /// When to try again, in milliseconds, if that can help.
        retry_after_ms: Option<u64>,
    },
}

impl<T> Reply<T> {
    /// A refusal without a time to try again.
    #[must_use]
    pub const fn refused(status: Status) -> Self {
        Reply::Refused { status, retry_after_ms: None }
    }

    /// A refusal that may be tried again after so many milliseconds.
    #[must_use]
    pub const fn retry(status: Status, after_ms: u64) -> Self {
        Reply::Refused { status, retry_after_ms: Some(after_ms) }
    }
}

impl<T: Serialize> Serialize for Reply<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut array = serializer.serialize_tuple(3)?;
        match self {
            Reply::Ok(body) => {
                array.serialize_element(&Status::Ok.code())?;
                array.serialize_element(&None::<u64>)?;
                array.serialize_element(body)?;
            }
            Reply::Refused { status, retry_after_ms } => {
                array.serialize_element(&status.code())?;
                array.serialize_element(retry_after_ms)?;
                array.serialize_element(&None::<u64>)?;
            }
        }
        array.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Reply<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = Reply<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of status, retry_after_ms and body")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Reply<T>, A::Error> {
                let missing = |n| de::Error::invalid_length(n, &"3 elements");
                let status = Status::from_code(array.next_element()?.ok_or_else(|| missing(0))?);
                let retry_after_ms: Option<u64> = array.next_element()?.ok_or_else(|| missing(1))?;
                let reply = if status == Status::Ok {
                    Reply::Ok(array.next_element()?.ok_or_else(|| missing(2))?)
                } else {
                    let _: IgnoredAny = array.next_element()?.ok_or_else(|| missing(2))?;
                    Reply::Refused { status, retry_after_ms }
                };
                while array.next_element::<IgnoredAny>()?.is_some() {}
                Ok(reply)
            }
        }

        deserializer.deserialize_seq(Visitor(std::marker::PhantomData))
    }
}
