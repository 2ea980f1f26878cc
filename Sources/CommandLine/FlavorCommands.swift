internal import HTTP
internal import Model

extension Command {
    /// `apus flavor …`
    static let flavor = Command.group(
        "flavor", "Flavors: list.",
        [
            .client("list", "List flavors.") { _, context in
                let flavors = try await allFlavors(context.client)
                var table = Table(["ID", "NAME", "VCPUS", "MEMORY MIB", "DISK GIB"], numeric: [2, 3, 4])
                for flavor in flavors {
                    table.add([
                        flavor["id"]?.text ?? "", flavor["name"]?.text ?? "",
                        flavor["vcpus"]?.int.map(String.init) ?? "", flavor["ram"]?.int.map(String.init) ?? "",
                        flavor["disk"]?.int.map(String.init) ?? "",
                    ])
                }
                context.show(.array(flavors), flavors.isEmpty ? "There are no flavors." : table.text)
            }
        ])
}
