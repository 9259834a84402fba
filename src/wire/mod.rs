//! HTTP/2 as pure state: octets and the time go in, events and octets come out.
