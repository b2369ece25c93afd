//! The few requests to rtnetlink that a stage needs: its links and routes
//! listed, a link made, a link brought up.
//!
//! # Source
//! rtnetlink(7), netlink(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE_EXCL: u16 = 0x600;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_LINK_NETNSID: u16 = 37;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
const RTA_OIF: u16 = 4;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
const IFF_UP: u32 = 1;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
const HEADER_BYTES: usize = 16;
const LINK_BYTES: usize = 16;
const ROUTE_BYTES: usize = 12;
const ANSWER_BYTES_MAX: usize = 1 << 16;

/// One network link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The kernel's number for it in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What kind of virtual link it is; `None` for devices and lo.
    pub kind: Option<String>,
    /// Its flags, as in netdevice(7).
    pub flags: u32,
    /// The id of the other end's namespace, where that is another one.
    pub peer_namespace: Option<i32>,
}

/// A conversation with the kernel about one network namespace: that which the
/// calling thread was in when it was opened.
#[derive(Debug)]
pub struct Rtnetlink(OwnedFd);

impl Rtnetlink {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Self(socket))
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// The kernel's, or an answer that cannot be read.
    pub fn links(&self) -> io::Result<Vec<Link>> {
        let answers = self.ask(RTM_GETLINK, NLM_F_DUMP, &[0; LINK_BYTES])?;
        answers
            .iter()
            .filter(|(kind, _)| *kind == RTM_NEWLINK)
            .map(|(_, body)| parse_link(body))
            .collect()
    }

    /// Whether packets for an unknown destination would find a way out.
    ///
    /// # Errors
    /// The kernel's, or an answer that cannot be read.
    pub fn has_default_route(&self) -> io::Result<bool> {
        for (kind, body) in self.ask(RTM_GETROUTE, NLM_F_DUMP, &[0; ROUTE_BYTES])? {
            if kind != RTM_NEWROUTE {
                continue;
            }
            let route = body.get(..ROUTE_BYTES).ok_or_else(torn)?;
            if route[1] == 0 && route[7] == RTN_UNICAST {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The number by which this namespace knows the one behind `namespace`.
    ///
    /// # Errors
    /// The kernel's, or an answer that cannot be read.
    pub fn namespace_number(&self, namespace: BorrowedFd<'_>) -> io::Result<Option<i32>> {
        let mut body = vec![0; 4];
        attribute(&mut body, NETNSA_FD, &namespace.as_raw_fd().to_ne_bytes());
        for (kind, body) in self.ask(RTM_GETNSID, 0, &body)? {
            if kind == RTM_NEWNSID {
                let attributes = attributes(body.get(4..).ok_or_else(torn)?)?;
                let number = find(&attributes, NETNSA_NSID).ok_or_else(torn)?;
                let number = i32::from_ne_bytes(number.try_into().map_err(|_| torn())?);
                return Ok((number >= 0).then_some(number));
            }
        }
        Ok(None)
    }

    /// Brings the link with this number up; lo has number 1.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bring_up(&self, index: u32) -> io::Result<()> {
        self.ask(RTM_NEWLINK, NLM_F_ACK, &link_message(index, IFF_UP))?;
        Ok(())
    }

    /// Makes a link of a kind that needs no further setting, as `bridge`.
    ///
    /// # Errors
    /// The kernel's: `EOPNOTSUPP` where the kind is not built.
    pub fn add_link(&self, name: &str, kind: &str) -> io::Result<()> {
        let mut info = Vec::new();
        attribute(&mut info, IFLA_INFO_KIND, kind.as_bytes());
        let mut body = link_message(0, 0).to_vec();
        attribute(&mut body, IFLA_IFNAME, &terminated(name));
        attribute(&mut body, IFLA_LINKINFO | NESTED, &info);
        self.ask(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE_EXCL, &body)?;
        Ok(())
    }

    /// Makes a veth pair: `name` here, `peer` in `peer_namespace`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_veth(
        &self,
        name: &str,
        peer: &str,
        peer_namespace: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let mut other = link_message(0, 0).to_vec();
        attribute(&mut other, IFLA_IFNAME, &terminated(peer));
        let number = peer_namespace.as_raw_fd().to_ne_bytes();
        attribute(&mut other, IFLA_NET_NS_FD, &number);
        let mut data = Vec::new();
        attribute(&mut data, VETH_INFO_PEER | NESTED, &other);
        let mut info = Vec::new();
        attribute(&mut info, IFLA_INFO_KIND, b"veth");
        attribute(&mut info, IFLA_INFO_DATA | NESTED, &data);
        let mut body = link_message(0, 0).to_vec();
        attribute(&mut body, IFLA_IFNAME, &terminated(name));
        attribute(&mut body, IFLA_LINKINFO | NESTED, &info);
        self.ask(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE_EXCL, &body)?;
        Ok(())
    }

    /// Removes a link; with one end of a veth pair goes the other.
    ///
    /// # Errors
    /// The kernel's: `ENODEV` where there is none of this name.
    pub fn remove_link(&self, name: &str) -> io::Result<()> {
        let mut body = link_message(0, 0).to_vec();
        attribute(&mut body, IFLA_IFNAME, &terminated(name));
        self.ask(RTM_DELLINK, NLM_F_ACK, &body)?;
        Ok(())
    }

    /// Sends every packet for an unknown destination out by one link.
    ///
    /// # Errors
    /// The kernel's: `ENETDOWN` for a link that is not up.
    pub fn add_default_route(&self, index: u32) -> io::Result<()> {
        let inet = AddressFamily::Inet as i32 as u8;
        let mut body = vec![inet, 0, 0, 0];
        body.extend([RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_LINK, RTN_UNICAST]);
        body.extend([0; 4]);
        attribute(&mut body, RTA_OIF, &index.to_ne_bytes());
        self.ask(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE_EXCL, &body)?;
        Ok(())
    }

    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<(u16, Vec<u8>)>> {
        let length = u32::try_from(HEADER_BYTES + body.len()).map_err(|_| torn())?;
        let mut message = Vec::new();
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        send(self.0.as_raw_fd(), &message, MsgFlags::empty())?;
        let dump = flags & NLM_F_DUMP == NLM_F_DUMP;
        let mut answers = Vec::new();
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        loop {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let messages = split(buffer.get(..length).ok_or_else(torn)?)?;
            for (kind, body) in messages {
                match kind {
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => return error(&body).map(|()| answers),
                    _ => answers.push((kind, body)),
                }
            }
            // Only a dump and an acknowledged request end with a message of
            // their own.
            if !dump && flags & NLM_F_ACK == 0 {
                return Ok(answers);
            }
        }
    }
}

impl AsFd for Rtnetlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn torn() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidData)
}

fn error(body: &[u8]) -> io::Result<()> {
    let number = body.get(..4).ok_or_else(torn)?;
    match i32::from_ne_bytes(number.try_into().map_err(|_| torn())?) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
    }
}

fn split(mut bytes: &[u8]) -> io::Result<Vec<(u16, Vec<u8>)>> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let length = u32_at(bytes, 0)? as usize;
        let kind = u16_at(bytes, 4)?;
        let body = bytes.get(HEADER_BYTES..length).ok_or_else(torn)?;
        messages.push((kind, body.to_vec()));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(messages)
}

fn parse_link(body: &[u8]) -> io::Result<Link> {
    let attributes_of_link = attributes(body.get(LINK_BYTES..).ok_or_else(torn)?)?;
    let kind = match find(&attributes_of_link, IFLA_LINKINFO) {
        Some(info) => find(&attributes(info)?, IFLA_INFO_KIND).map(text),
        None => None,
    };
    let peer_namespace = match find(&attributes_of_link, IFLA_LINK_NETNSID) {
        Some(number) => Some(i32::from_ne_bytes(number.try_into().map_err(|_| torn())?)),
        None => None,
    };
    Ok(Link {
        index: u32_at(body, 4)?,
        name: find(&attributes_of_link, IFLA_IFNAME)
            .map(text)
            .ok_or_else(torn)?,
        kind,
        flags: u32_at(body, 8)?,
        peer_namespace,
    })
}

fn attributes(mut bytes: &[u8]) -> io::Result<Vec<(u16, &[u8])>> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        found.push((kind, bytes.get(4..length).ok_or_else(torn)?));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

fn find<'a>(attributes: &[(u16, &'a [u8])], kind: u16) -> Option<&'a [u8]> {
    attributes
        .iter()
        .find(|(found, _)| *found == kind)
        .map(|(_, value)| *value)
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // Names and nested messages made here are far below 64 KiB.
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn link_message(index: u32, flags: u32) -> [u8; LINK_BYTES] {
    let mut message = [0; LINK_BYTES];
    message[4..8].copy_from_slice(&index.to_ne_bytes());
    message[8..12].copy_from_slice(&flags.to_ne_bytes());
    message[12..16].copy_from_slice(&flags.to_ne_bytes());
    message
}

fn terminated(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

fn u16_at(bytes: &[u8], place: usize) -> io::Result<u16> {
    let bytes = bytes.get(place..place + 2).ok_or_else(torn)?;
    Ok(u16::from_ne_bytes(bytes.try_into().map_err(|_| torn())?))
}

fn u32_at(bytes: &[u8], place: usize) -> io::Result<u32> {
    let bytes = bytes.get(place..place + 4).ok_or_else(torn)?;
    Ok(u32::from_ne_bytes(bytes.try_into().map_err(|_| torn())?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lo_is_among_the_links() {
        let links = Rtnetlink::open().unwrap().links().unwrap();
        let lo = links.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!((lo.index, lo.kind.as_deref()), (1, None));
    }

    #[test]
    fn a_torn_message_is_an_error() {
        assert!(split(&[40, 0, 0, 0, 16, 0, 0, 0]).is_err());
        assert!(attributes(&[9, 0, 3, 0, 1]).is_err());
    }

    #[test]
    fn an_attribute_is_padded_and_found_again() {
        let mut message = Vec::new();
        attribute(&mut message, IFLA_IFNAME, &terminated("ab"));
        attribute(&mut message, IFLA_LINKINFO | NESTED, b"x");
        assert_eq!(message.len(), 16);
        let found = attributes(&message).unwrap();
        assert_eq!(find(&found, IFLA_IFNAME).map(text), Some("ab".to_owned()));
        assert_eq!(find(&found, IFLA_LINKINFO), Some(&b"x"[..]));
    }
}
