internal import HTTP
internal import Model

/// `GET /servers/{id}/topology`: the guest's cells, and for administrators where they are on the host.
extension ComputeRoutes {
    mutating func addTopology() {
        let parts = parts
        addServer(.get, "/topology", rule: "servers:topology:index", versions: 78...Int.max) { call, server in
            // A server without a host has no place yet, or none any more.
            let topology =
                server.host == nil
                ? GuestTopology(cells: [], pageSizeKiB: nil) : try await parts.conductor.topology(server.id)
            let showsHost = call.allows("servers:topology:host:index")
            return jsonAnswer { writer in
                writer.array("nodes") { writer in
                    for cell in topology.cells { writer.object { write(cell, showsHost, to: &$0) } }
                }
                writer.member("pagesize_kb", topology.pageSizeKiB)
            }
        }
    }
}

private func write(_ cell: GuestTopology.Cell, _ showsHost: Bool, to writer: inout JSONWriter) {
    writer.member("memory_mb", cell.memoryMiB)
    writer.array("siblings") { writer in
        for core in cell.siblings {
            writer.array { writer in
                for vcpu in core { writer.integer(vcpu) }
            }
        }
    }
    writer.array("vcpu_set") { writer in
        for vcpu in cell.vcpus { writer.integer(vcpu) }
    }
    guard showsHost else { return }
    writer.member("host_node", cell.hostCell)
    writer.object("cpu_pinning") { writer in
        for (vcpu, cpu) in cell.pins.sorted(by: { $0.key < $1.key }) { writer.member(String(vcpu), cpu) }
    }
}
