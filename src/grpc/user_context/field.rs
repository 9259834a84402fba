//! The encoded `user_context` field of a verified user.

use std::rc::Rc;

use crate::grpc::protobuf::put_octets;

/// The field numbers of `UserContext`, and of `user_context` in every request.
const USER_ID: u8 = 1;
const USER_NAME: u8 = 2;
const USER_CONTEXT: u8 = 2;

/// The `user_context` field of a verified user as protobuf. Clones share the octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserContextField(Rc<[u8]>);

impl UserContextField {
    /// Encodes a user. Empty names are written too: an absent name would not override the one of
    /// the client.
    #[must_use]
    pub fn new(user_id: &str, user_name: &str) -> Self {
        let mut context = Vec::new();
        put_octets(&mut context, USER_ID, user_id.as_bytes());
        put_octets(&mut context, USER_NAME, user_name.as_bytes());
        let mut field = Vec::new();
        put_octets(&mut field, USER_CONTEXT, &context);
        Self(field.into())
    }

    /// The octets to append to a message.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_one_user_context_with_both_names() {
        let field = UserContextField::new("bob", "Bob");
        assert_eq!(field.octets(), b"\x12\x0a\x0a\x03bob\x12\x03Bob");
        assert_eq!(UserContextField::new("", "").octets(), b"\x12\x04\x0a\x00\x12\x00");
    }

    #[test]
    fn lengths_above_127_take_two_octets() {
        let field = UserContextField::new(&"u".repeat(200), "");
        assert!(field.octets().starts_with(b"\x12\xcd\x01\x0a\xc8\x01uuu"));
        assert_eq!(field.octets().len(), 208);
    }
}
