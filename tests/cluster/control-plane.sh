# control-plane.sh: etcd, API server, controller-manager, scheduler and CoreDNS, in the host's
# namespaces, bound to the bridge's address alone: nothing of the host's own addresses or ports is
# taken. Sourced by `up`.
#
# The short grace periods make a dead node visible within seconds instead of minutes; gangs
# (PodGroup) are a beta API that must be switched on by its group and by the gate of the three
# programs that act on it.
gangs=--feature-gates=GenericWorkload=true

start_daemon() { # name command...
	local name=$1
	shift
	(in_cgroup control-plane setsid "$@" >"$state/log/$name" 2>&1 </dev/null) &
}

start_etcd() {
	local client=https://$host_ip:2379 peer=https://$host_ip:2380
	start_daemon etcd etcd --data-dir "$state/etcd" --unsafe-no-fsync \
		--listen-client-urls $client --advertise-client-urls $client \
		--listen-peer-urls $peer --initial-advertise-peer-urls $peer \
		--initial-cluster default=$peer \
		--client-cert-auth --trusted-ca-file "$pki/etcd-ca.crt" \
		--cert-file "$pki/etcd.crt" --key-file "$pki/etcd.key" \
		--peer-client-cert-auth --peer-trusted-ca-file "$pki/etcd-ca.crt" \
		--peer-cert-file "$pki/etcd.crt" --peer-key-file "$pki/etcd.key"
}

start_apiserver() {
	local front=--requestheader
	start_daemon kube-apiserver kube-apiserver --bind-address=$host_ip --secure-port=6443 \
		--advertise-address=$host_ip --service-cluster-ip-range=$service_net \
		--etcd-servers="https://$host_ip:2379" --etcd-cafile="$pki/etcd-ca.crt" \
		--etcd-certfile="$pki/etcd-client.crt" --etcd-keyfile="$pki/etcd-client.key" \
		--tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
		--client-ca-file="$pki/ca.crt" --anonymous-auth=false \
		--kubelet-client-certificate="$pki/apiserver-kubelet.crt" \
		--kubelet-client-key="$pki/apiserver-kubelet.key" \
		--kubelet-certificate-authority="$pki/ca.crt" \
		--kubelet-preferred-address-types=InternalIP \
		$front-client-ca-file="$pki/front-proxy-ca.crt" \
		$front-allowed-names=front-proxy-client $front-username-headers=X-Remote-User \
		$front-group-headers=X-Remote-Group $front-extra-headers-prefix=X-Remote-Extra- \
		--proxy-client-cert-file="$pki/front-proxy.crt" \
		--proxy-client-key-file="$pki/front-proxy.key" \
		--authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
		--allow-privileged=true \
		--service-account-issuer=https://kubernetes.default.svc.cluster.local \
		--service-account-key-file="$pki/sa.pub" \
		--service-account-signing-key-file="$pki/sa.key" \
		--default-not-ready-toleration-seconds=5 \
		--default-unreachable-toleration-seconds=5 \
		--runtime-config=scheduling.k8s.io/v1beta1=true $gangs
}

start_controller() { # program user argument...
	local program=$1 config=$state/kubeconfig/$2
	shift 2
	start_daemon "$program" "$program" --kubeconfig="$config" --bind-address=$host_ip \
		--authentication-kubeconfig="$config" --authorization-kubeconfig="$config" \
		--leader-elect=false --kube-api-qps=500 --kube-api-burst=1000 $gangs "$@"
}

start_controllers() {
	start_controller kube-scheduler scheduler
	start_controller kube-controller-manager controller-manager \
		--service-account-private-key-file="$pki/sa.key" --root-ca-file="$pki/ca.crt" \
		--use-service-account-credentials=true --node-monitor-period=1s \
		--node-monitor-grace-period=${LLMJOB_NODE_GRACE:-8s} --node-startup-grace-period=10s
}

start_dns() {
	cat >"$state/Corefile" <<-E
		cluster.local in-addr.arpa {
			bind $host_ip
			errors
			ready $host_ip:8181
			kubernetes cluster.local in-addr.arpa {
				kubeconfig $state/kubeconfig/coredns
				ttl 1
			}
		}
	E
	start_daemon coredns coredns -conf "$state/Corefile"
}

start_control_plane() {
	start_etcd
	start_apiserver
	wait_until 60 "API server (see $state/log/kube-apiserver)" kubectl get --raw /readyz
	start_controllers
	kubectl apply -f "$here/tpl/rbac.yaml" >/dev/null
	start_dns
}
