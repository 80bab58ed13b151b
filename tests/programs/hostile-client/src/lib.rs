//! A client component that does whatever a client should not: a compromised one, as it were. What it does is chosen
//! by the `aname` that it is started with, and done when somebody asks for the attributes of a file.

#[cfg(target_arch = "wasm32")]
mod component;
