internal import Crypto
internal import Database
internal import HTTP
internal import Model
internal import RPC

/// `os-interface`: the server's NICs, each under the port id that is made of its address.
///
/// There is no network service: a NIC is on the host's configured network, whose id is made of its name.
extension ComputeRoutes {
    mutating func addInterfaces() {
        let parts = parts
        addServer(.get, "/os-interface", rule: "os-attach-interfaces:list") { call, server in
            jsonAnswer { writer in
                writer.array("interfaceAttachments") { writer in
                    for nic in server.interfaces { writer.object { write(nic, of: server, call, to: &$0) } }
                }
            }
        }
        addServer(.get, "/os-interface/{port}", rule: "os-attach-interfaces:show") { call, server in
            answer(try named(call, server), of: server, call)
        }
        addServer(.post, "/os-interface", rule: "os-attach-interfaces:create") { call, server in
            let order = try interfaceOrder(call, server)
            let (before, task) = try await changeServer(
                server, .attachInterface, call, parts, kind: TaskKind.guest,
                state: { GuestTaskState(instance: $0.id, command: .attachInterface(order)) })
            switch try await TaskWait(parts).end(of: task) {
            case .failed(let failure): throw failure
            case .underWay:
                throw APIError(504, "The interface is still being attached: task \(task) goes on.")
            case .succeeded: break
            }
            // While the task was at work no other could change the interfaces.
            let known = Set(before.interfaces.map(\.macAddress))
            guard let now = try await parts.database.instances.find(server.id),
                let made = now.interfaces.first(where: { !known.contains($0.macAddress) })
            else { throw APIError(500, "The host has attached an interface and has not said which.") }
            return answer(made, of: now, call)
        }
        addServer(.delete, "/os-interface/{port}", rule: "os-attach-interfaces:delete") { call, server in
            let nic = try named(call, server)
            _ = try await changeServer(
                server, .detachInterface, call, parts, kind: TaskKind.guest,
                state: { GuestTaskState(instance: $0.id, command: .detachInterface(nic.macAddress)) })
            return HTTPResponse(202)
        }
    }
}

/// The NIC that the path names. Throws 404 when the server has none of that id.
private func named(_ call: ComputeCall, _ server: Instance) throws(APIError) -> NetworkInterface {
    let port = call.parameter("port")
    guard let nic = server.interfaces.first(where: { $0.portID(in: server.id) == port.lowercased() }) else {
        throw .notFound("Port \(port) is not attached to instance \(server.id).")
    }
    return nic
}

/// What a body asks for: nothing, or `{"interfaceAttachment": {net_id?, fixed_ips?, tag?}}`.
private func interfaceOrder(_ call: ComputeCall, _ server: Instance) throws(APIError) -> InterfaceOrder {
    guard !call.request.bytes.isEmpty, try call.body().isNull == false else { return InterfaceOrder() }
    var (fields, _) = try BodyFields.body(call.request.bytes, member: "interfaceAttachment")
    let network = try fields.nullableText("net_id") ?? nil
    let port = try fields.nullableText("port_id") ?? nil
    let addresses = try fields.list("fixed_ips")
    let tag = call.isAtLeast(49) ? try fields.text("tag", length: 1...60) : nil
    try fields.finish()
    for id in [network, port].compactMap(\.self) where !isUUID(id) {
        throw .badRequest("Invalid input for field/attribute interfaceAttachment. '\(id)' is not a uuid.")
    }
    guard network == nil || port == nil else { throw .badRequest("Must not input both network_id and port_id") }
    if let port { throw .notFound("Port \(port) could not be found: there is no network service.") }
    if let network { try checkKnown(network, server) }
    if let tag, tag.contains(where: { $0 == "/" || $0 == "," }) {
        throw .badRequest("Invalid input for field/attribute tag: neither a slash nor a comma may be in it.")
    }
    return InterfaceOrder(ipv4Address: try address(addresses, network), tag: tag)
}

private func address(_ list: [JSON]?, _ network: String?) throws(APIError) -> String? {
    guard let list else { return nil }
    guard list.count == 1 else { throw .badRequest("Invalid input for field/attribute fixed_ips: one is wanted.") }
    guard network != nil else { throw .badRequest("Must input network_id when request IP address") }
    var entry = try BodyFields(list[0], as: "fixed_ips")
    let address = try entry.requiredText("ip_address")
    try entry.finish()
    guard isIPv4(address) else { throw .badRequest("Invalid fixed IP address: \(address) is no IPv4 address.") }
    return address
}

private func checkKnown(_ network: String, _ server: Instance) throws(APIError) {
    guard server.interfaces.contains(where: { identifier("network", $0.network) == network.lowercased() }) else {
        throw .notFound(
            "Network \(network) could not be found: there is no network service. Without net_id the interface is on "
                + "the host's configured network.")
    }
}

private func answer(_ nic: NetworkInterface, of server: Instance, _ call: ComputeCall) -> HTTPResponse {
    jsonAnswer { writer in
        writer.object("interfaceAttachment") { write(nic, of: server, call, to: &$0) }
    }
}

private func write(_ nic: NetworkInterface, of server: Instance, _ call: ComputeCall, to writer: inout JSONWriter) {
    writer.member("port_state", server.powerState == .running ? "ACTIVE" : "DOWN")
    writer.array("fixed_ips") { writer in
        guard let address = nic.ipv4Address else { return }
        writer.object {
            $0.member("subnet_id", identifier("subnet", nic.network))
            $0.member("ip_address", address)
        }
    }
    writer.member("port_id", nic.portID(in: server.id))
    writer.member("net_id", identifier("network", nic.network))
    writer.member("mac_addr", nic.macAddress)
    if call.isAtLeast(70) { writer.member("tag", nic.tag) }
}

/// A uuid that is the same for the same name, everywhere.
private func identifier(_ kind: String, _ name: String) -> String {
    var bytes = Array(digest(.sha256, of: Array("apus:\(kind):\(name)".utf8)).prefix(16))
    // Version 8 of RFC 9562: made by a rule of our own.
    bytes[6] = bytes[6] & 0x0F | 0x80
    bytes[8] = bytes[8] & 0x3F | 0x80
    let text = Hex.encode(bytes)
    var pieces: [Substring] = []
    var rest = text[...]
    for length in [8, 4, 4, 4, 12] {
        pieces.append(rest.prefix(length))
        rest = rest.dropFirst(length)
    }
    return pieces.joined(separator: "-")
}
