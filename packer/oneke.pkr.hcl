# The appliance's image: a distribution's cloud image, plus what `appliance-build` made, put in by provision.sh. There is no
# logic here: everything that can be wrong is in that script, which the lab runs as well.

variable "base" {
  description = "Address or path of a Debian or Ubuntu cloud image (qcow2)."
  type        = string
}

variable "base_checksum" {
  description = "Its checksum, as Packer writes them: sha256:HASH, or file:ADDRESS."
  type        = string
}

variable "stage" {
  description = "Directory with the agent's package (oneke-agent.deb) and RKE2's tarball (rke2.tar.gz)."
  type        = string
}

variable "ssh_private_key_file" {
  description = "Key of a user who may log in to the base image as root."
  type        = string
}

variable "output_directory" {
  description = "Where the image goes; must not be there yet."
  type        = string
  default     = "output"
}

variable "accelerator" {
  description = "kvm where it works, else tcg."
  type        = string
  default     = "kvm"
}

source "qemu" "oneke" {
  iso_url              = var.base
  iso_checksum         = var.base_checksum
  disk_image           = true
  format               = "qcow2"
  disk_size            = "8G"
  disk_compression     = true
  accelerator          = var.accelerator
  memory               = 2048
  cpus                 = 2
  headless             = true
  net_device           = "virtio-net"
  output_directory     = var.output_directory
  vm_name              = "oneke.qcow2"
  communicator         = "ssh"
  ssh_username         = "root"
  ssh_private_key_file = var.ssh_private_key_file
  ssh_timeout          = "10m"
  shutdown_command     = "systemctl poweroff"
}

build {
  sources = ["source.qemu.oneke"]

  provisioner "file" {
    source      = var.stage
    destination = "/tmp/oneke"
  }

  provisioner "shell" {
    script          = "provision.sh"
    execute_command = "sh {{ .Path }} /tmp/oneke"
  }

  # No identity of its own, so that no two machines of this image share one.
  provisioner "shell" {
    inline = [
      "rm -rf /tmp/oneke",
      "truncate -s 0 /etc/machine-id",
      "rm -f /etc/hostname /etc/ssh/ssh_host_*",
      "sync",
    ]
  }
}
