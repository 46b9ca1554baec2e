//! The kubelet's pod-resources API, `v1.PodResourcesLister`: which devices it gave to the containers of a pod.
//!
//! Its answers name pods by namespace and name only. The messages, as far as they are read:
//!
//! ```text
//! ListPodResourcesResponse  pod_resources 1*
//! GetPodResourcesRequest    pod_name 1, pod_namespace 2
//! GetPodResourcesResponse   pod_resources 1
//! PodResources              name 1, namespace 2, containers 3*
//! ContainerResources        devices 2*, dynamic_resources 5*
//! ContainerDevices          resource_name 1, device_ids 2*
//! DynamicResource           claim_name 2, claim_namespace 3, claim_resources 4*
//! ClaimResource             cdi_devices 1*, driver_name 2, pool_name 3, device_name 4
//! CDIDevice                 name 1
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use super::grpc::{self, GrpcError};
use super::protobuf::{NoMessage, fields, put_bytes};
use crate::pod_cache::PodName;

/// Where the kubelet serves it, below its directory.
pub const SOCKET: &str = "pod-resources/kubelet.sock";
/// The longest answer. A pod with a dozen devices takes 1 KiB of it.
const LONGEST: usize = 4 << 20;

/// The status of a method that a server does not have.
const UNIMPLEMENTED: u32 = 12;

/// Devices of one pod, by resource.
pub type ByResource = BTreeMap<String, Vec<String>>;

/// What the kubelet tells of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodDevices {
    /// Of device plugins: one container after the other, sorted in each, for the kubelet keeps a set and tells it in any order.
    pub plugins: ByResource,
    /// Of dynamic resource allocation, by the names of claims and of drivers.
    pub claims: ByResource,
}

/// Asks for one pod. None when the kubelet serves no such method.
pub async fn get(socket: &Path, pod: &PodName) -> Result<Option<PodDevices>, GrpcError> {
    let mut request = Vec::new();
    put_bytes(&mut request, 1, pod.name.as_str().as_bytes());
    put_bytes(&mut request, 2, pod.namespace.as_str().as_bytes());
    match grpc::unary(socket, "/v1.PodResourcesLister/Get", &request, LONGEST).await {
        Ok(answer) => Ok(read(&answer, pod)?.pop()),
        Err(GrpcError::Status { code, message }) if code == UNIMPLEMENTED || message.contains("disabled") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lists all pods, and returns those with this name: more than one while an earlier pod of the name is not gone yet.
pub async fn list(socket: &Path, pod: &PodName) -> Result<Vec<PodDevices>, GrpcError> {
    let answer = grpc::unary(socket, "/v1.PodResourcesLister/List", &[], LONGEST).await?;
    Ok(read(&answer, pod)?)
}

impl From<NoMessage> for GrpcError {
    fn from(_: NoMessage) -> Self {
        Self::Malformed("an answer that is no message of the pod-resources API")
    }
}

/// The pods with this name in an answer to List or Get.
fn read(answer: &[u8], pod: &PodName) -> Result<Vec<PodDevices>, NoMessage> {
    let mut found = Vec::new();
    for field in fields(answer) {
        let (1, value) = field? else { continue };
        found.extend(read_pod(value.message()?, pod)?);
    }
    Ok(found)
}

fn read_pod(message: &[u8], pod: &PodName) -> Result<Option<PodDevices>, NoMessage> {
    let (mut name, mut namespace, mut containers) = ("", "", Vec::new());
    for field in fields(message) {
        match field? {
            (1, value) => name = value.text()?,
            (2, value) => namespace = value.text()?,
            (3, value) => containers.push(value.message()?),
            _ => {}
        }
    }
    if name != pod.name.as_str() || namespace != pod.namespace.as_str() {
        return Ok(None);
    }
    let mut devices = PodDevices::default();
    for container in containers {
        read_container(container, &mut devices)?;
    }
    Ok(Some(devices))
}

fn read_container(message: &[u8], devices: &mut PodDevices) -> Result<(), NoMessage> {
    let mut own = ByResource::new();
    for field in fields(message) {
        match field? {
            (2, value) => {
                let (mut resource, mut ids) = ("", Vec::new());
                for field in fields(value.message()?) {
                    match field? {
                        (1, value) => resource = value.text()?,
                        (2, value) => ids.push(value.text()?.to_owned()),
                        _ => {}
                    }
                }
                own.entry(resource.to_owned()).or_default().extend(ids);
            }
            (5, value) => read_claim(value.message()?, &mut devices.claims)?,
            _ => {}
        }
    }
    for (resource, mut ids) in own {
        ids.sort();
        add(&mut devices.plugins, &resource, ids);
    }
    Ok(())
}

/// A definition names a claim by the claim's name, as with Multus, or by the driver that serves it: the claim of a template has
/// another name in each pod.
fn read_claim(message: &[u8], claims: &mut ByResource) -> Result<(), NoMessage> {
    let (mut claim, mut resources) = ("", Vec::new());
    for field in fields(message) {
        match field? {
            (2, value) => claim = value.text()?,
            (4, value) => resources.push(value.message()?),
            _ => {}
        }
    }
    for resource in resources {
        let (mut driver, mut device, mut cdi) = ("", "", Vec::new());
        for field in fields(resource) {
            match field? {
                (1, value) => cdi.push(value.message()?),
                (2, value) => driver = value.text()?,
                (4, value) => device = value.text()?,
                _ => {}
            }
        }
        // `vendor.com/class=name`: the name is the device's, as the container's environment has it.
        let mut ids = Vec::new();
        for name in cdi {
            for field in fields(name) {
                if let (1, value) = field? {
                    ids.extend(value.text()?.split_once('=').map(|(_, id)| id.to_owned()));
                }
            }
        }
        if ids.is_empty() {
            ids.push(device.to_owned());
        }
        add(claims, claim, ids.clone());
        add(claims, driver, ids);
    }
    Ok(())
}

/// A device that containers share is one device.
fn add(devices: &mut ByResource, resource: &str, ids: Vec<String>) {
    let known = devices.entry(resource.to_owned()).or_default();
    for id in ids {
        if !known.contains(&id) {
            known.push(id);
        }
    }
}
